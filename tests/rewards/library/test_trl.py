"""Functions written for TRL: what they are given, what they may log, and what pictures can't give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.library.trl import TrlReward
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.types import Prompt, Sample, Score, UserError


def sample(prompt: str = "four", size: tuple[int, int] = (8, 8), **metadata: object) -> Sample:
    return Sample(prompt, "g", Prompt(prompt, prompt, metadata), np.zeros((*size, 3), np.uint8))


def reward(function: Callable[..., object], **options: object) -> TrlReward:
    return TrlReward(f"{__name__}:{function.__name__}", options)


def as_documented(prompts: list[str], completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [0.5 for _ in zip(prompts, completions, completion_ids, strict=True)]


def style(prompts: list[str], completions: list[Image.Image], text: list[str | None], **columns: Any) -> list[Any]:
    assert set(columns) == {"bonus", "completion_ids", "trainer_state", "log_extra", "log_metric"}
    return [len(p) + c.size[0] + len(t or "") for p, c, t in zip(prompts, completions, text, strict=True)]


async def later(completions: list[Image.Image], bonus: float, **columns: Any) -> list[float]:
    return [bonus for _ in completions]


def given(**given: Any) -> list[float]:
    return [float(given["bonus"])] * len(given["prompts"])


def only_these(completions: list[Image.Image], text: list[str], scale: float = 1.0) -> list[float]:
    return [scale * len(one) for one in text]


def counts_tokens(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


def looks_at_the_trainer(prompts: list[str], trainer_state: Any, **_: Any) -> list[float]:
    return [float(trainer_state.global_step)] * len(prompts)


def logs(prompts: list[str], log_extra: Any, log_metric: Any, **_: Any) -> list[float | None]:
    log_extra("words", [len(prompt.split()) for prompt in prompts])
    log_metric("share", 0.25)
    return [1.0, None]


class Holder:
    def __call__(self, samples: list[Sample]) -> list[float]:
        return []


def test_a_function_as_trl_documents_it() -> None:
    assert reward(as_documented)([sample(), sample(tag="x")]) == [Score(0.5), Score(0.5)]


def test_columns_and_coroutines() -> None:
    samples = [sample("four", (8, 16), text="CAT"), sample("six six")]
    assert [score.value for score in reward(style, bonus=1)(samples)] == [4 + 16 + 3, 7 + 8 + 0]
    assert reward(later, bonus=2.0)(samples) == [Score(2.0), Score(2.0)]
    options = {"function": f"{__name__}:later", "options": {"bonus": 3}}
    with RewardPool({"r": RewardComponent(use="trl", options=options)}) as pool:
        assert pool.score(samples)["r"] == [Score(3.0), Score(3.0)]


def test_without_columns_it_gets_what_it_names() -> None:
    assert reward(only_these, scale=2.0)([sample(text="CAT", tag="ocr")]) == [Score(6.0)]
    with pytest.raises(ValueError, match=r"needs 'text', which no prompt of the batch has in its metadata; give it a "):
        reward(only_these)([sample(tag="ocr")])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (counts_tokens, "looks into `completion_ids`, and the completions here are pictures without token ids"),
        (looks_at_the_trainer, "looks at `trainer_state.global_step`, and a reward here knows nothing of its trainer"),
    ],
)
def test_what_pictures_have_not_is_an_error_when_looked_at(function: Callable[..., object], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        reward(function)([sample()])


def test_what_it_logs_stands_in_the_details() -> None:
    assert reward(logs)([sample("a cat"), sample("cat")]) == [
        Score(1.0, details={"words": 2, "share": 0.25}),
        Score(None, details={"words": 1, "share": 0.25}),
    ]


def test_metadata_named_like_an_option_or_an_argument_is_hidden() -> None:
    metadata = {"bonus": 7, "prompts": "x", "completions": "y", "samples": "z", "self": 0, "log_metric": 1}
    samples = [sample(**metadata)]
    assert reward(given, bonus=1)(samples) == [Score(1.0)]
    assert reward(later, bonus=2.0)(samples) == [Score(2.0)]


@pytest.mark.parametrize("name", ["prompts", "completion_ids", "log_metric"])
def test_an_option_may_not_be_called_like_what_trl_passes(name: str) -> None:
    with pytest.raises(UserError, match=f"options.options.{name}: the function gets the run's own {name}; drop the"):
        reward(given, **{name: 1})


def test_an_option_that_it_does_not_take() -> None:
    with pytest.raises(UserError, match=r"options.options.scales: '.*' takes no such argument, did you mean 'scale'\?"):
        reward(only_these, scales=1)


def test_it_must_be_a_function() -> None:
    with pytest.raises(UserError) as caught:
        load_reward("r", "trl", {"function": f"{__name__}:Holder"})
    assert str(caught.value).startswith("rewards.r")
    assert str(caught.value).endswith(
        f"options.function: '{__name__}:Holder' is not a function of prompts and completions"
    )
