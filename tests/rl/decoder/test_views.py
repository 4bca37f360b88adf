"""Which weights write and paint each cell, and what is taken over instead of being painted again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.config.schema import Config
from rl.decoder.views import PartViews, other_weights
from rl.evaluation.parts import PartView, load_parts
from rl.evaluation.results import Evaluation, Outcome
from rl.types import Prompt, Rollout, Score
from rollout.seeds import sample_seed

PROMPTS = [Prompt(f"p{place}", "x", {"tag": "t"}) for place in range(3)]


class Actor:
    """Writes with the language model of now, paints with the decoder of now unless another is lent; a score says who it
    was: 100 x language model + 10 x decoder + steps."""

    def __init__(self) -> None:
        self.ar = self.decoder = 0.0
        self.painted = 0
        self.render = SimpleNamespace(steps=2)

    def written(
        self, prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[Rollout, Tensor]:
        count = len(prompts) * samples_per_prompt
        tokens, logprobs = np.zeros((count, 1), np.int64), np.zeros((count, 1), np.float32)
        rollout = Rollout(
            tuple(prompts), samples_per_prompt, ((1,),) * len(prompts), tokens, logprobs, tuple(seeds), 1, 0
        )
        return rollout, torch.full((count, 2, 2), self.ar)

    def shown(
        self, name: str, rollout: Rollout, hidden_BSD: Tensor, seed: int, steps: int | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, list[Score]]]:
        self.painted += rollout.batch_size
        value = 100 * float(hidden_BSD[0, 0, 0]) + 10 * self.decoder + (steps or 2)
        return np.zeros((rollout.batch_size, 1, 1, 3), np.uint8), {"ink": [Score(value)] * rollout.batch_size}

    @contextmanager
    def lent(self, decoder: float) -> Iterator[None]:
        own, self.decoder = self.decoder, decoder
        yield
        self.decoder = own


def main_evaluation(step: int, value: float) -> Evaluation:
    """Of all prompts; one more than the views look at."""
    everybody = [*PROMPTS, Prompt("p9", "x", {"tag": "t"})]
    found = [Outcome("ink", "t", prompt.id, sample_seed(5, 0, prompt.id, 0), value) for prompt in everybody]
    return Evaluation(step, tuple(found))


def run_of(actor: Actor, *, joint: bool, ema: bool = True) -> PartViews:
    def lending(decoder: float) -> Any:
        return lambda: actor.lent(decoder)

    weights: dict[str, Any] = ({"base": lending(0.0)} if joint else {}) | ({"ema": lending(0.5)} if ema else {})
    act: Any = actor
    return PartViews(act, PROMPTS, 1, 5, joint, weights)


def cells(views: PartViews, step: int, value: float, folder: Path) -> dict[PartView, float]:
    found = views.look(main_evaluation(step, value), folder)
    assert all(len(one.outcomes) == len(PROMPTS) for one in found.views.values())
    return {view: one.results["ink"]["overall"].estimate.mean for view, one in found.views.items()}  # type: ignore[union-attr]


def test_every_cell_is_made_by_its_own_weights(tmp_path: Path) -> None:
    actor = Actor()
    views = run_of(actor, joint=True)
    views.remember()
    assert cells(views, 0, 2.0, tmp_path) == {PartView("base", "base", 2): 2, PartView("base", "base", 4): 4}
    actor.ar = actor.decoder = 1.0
    actor.painted = 0
    assert cells(views, 8, 112.0, tmp_path) == {
        PartView("base", "base", 2): 2,
        PartView("base", "base", 4): 4,
        PartView("now", "now", 2): 112,
        PartView("now", "now", 4): 114,
        PartView("now", "ema", 2): 107,
        PartView("base", "now", 2): 12,
        PartView("now", "base", 2): 102,
    }
    assert actor.painted == 4 * len(PROMPTS)  # the evaluation's own and the base's are taken over
    assert actor.decoder == 1.0


@pytest.mark.parametrize("joint", [True, False])
def test_where_the_base_was_not_evaluated_its_cell_is_painted_once(joint: bool, tmp_path: Path) -> None:
    actor = Actor()
    views = run_of(actor, joint=True)  # which keeps the base's weights
    views.joint = joint
    views.remember()
    actor.decoder, actor.ar = 1.0, float(joint)
    assert cells(views, 8, 112.0, tmp_path)[PartView("base", "base", 2)] == 2
    actor.painted, actor.decoder = 0, 2.0
    assert cells(views, 16, 122.0, tmp_path)[PartView("base", "base", 2)] == 2
    assert actor.painted == len(PROMPTS) * (4 if joint else 2)  # ema and twice the steps, and across: not the base's
    assert len(load_parts(tmp_path / "parts-16.json").views) == (6 if joint else 4)


def test_a_decoder_alone_has_no_other_language_model(tmp_path: Path) -> None:
    actor = Actor()
    views = run_of(actor, joint=False, ema=False)
    views.remember()
    actor.decoder = 1.0
    assert cells(views, 8, 12.0, tmp_path) == {PartView("base", "now", 2): 12, PartView("base", "now", 4): 14}
    assert actor.painted == len(PROMPTS)


def test_weights_to_paint_with_are_those_that_somebody_looks_at() -> None:
    learning = torch.nn.Parameter(torch.ones(2))
    decoder: Any = SimpleNamespace(named_parameters=lambda: [("w", learning)])
    trainer: Any = SimpleNamespace(lent=lambda name: name)

    def names(trainers: list[str], *, held_out: bool = True, ema: float | None = 0.9, **evaluation: Any) -> list[str]:
        data = {} if held_out else {"data": {"eval": None}}
        sections = {"trainers": trainers, "eval": evaluation, "decoder": {"ema": ema}, **data}
        return list(other_weights(Config.model_validate(sections), decoder, trainer))

    assert names(["ar", "decoder"]) == ["base", "ema"]
    assert names(["decoder"]) == ["ema"] and names(["decoder"], at_start=False) == ["base", "ema"]
    assert names(["ar", "decoder"], ema=None) == ["base"]
    assert names(["ar", "decoder"], parts=0) == names(["ar", "decoder"], held_out=False) == []
