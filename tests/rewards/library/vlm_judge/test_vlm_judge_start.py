from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rewards.library.vlm_judge.reward import VlmJudge
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.types import UserError
from tests.rewards.library.vlm_judge.judging import CRITERIA, always, by_level, sample, yes
from tests.rewards.library.vlm_judge.vlm_server import MODEL, Answer, FakeEndpoint, chat, picture_of

pytestmark = pytest.mark.usefixtures("no_back_off")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "score"}, "mode is 'score': it must be 'yes_no', 'rubric', 'stated', 'atoms'"),
        ({"criteria": CRITERIA}, "criteria belongs to `mode: rubric`, and the mode is 'yes_no'; set one or drop one"),
        ({"logprobs": "no"}, "logprobs is 'no': it must be true or false"),
        ({"retries": 4}, "retries is 4: it must be 0, 1, 2 or 3"),
        ({"retries": True}, "retries is True: it must be 0, 1, 2 or 3"),
        ({"timeout_s": 0}, "timeout_s is 0: it must be a number above 0"),
        ({"timeout_s": "5"}, "timeout_s is '5': it must be a number above 0"),
        ({"max_requests_per_second": -1}, "max_requests_per_second is -1: it must be a number above 0"),
        ({"max_requests_per_second": float("nan")}, "max_requests_per_second is nan: it must be a number above 0"),
        ({"concurrency": 0}, "concurrency is 0: it must be a whole number of at least 1"),
        ({"max_side": 2.5}, "max_side is 2.5: it must be a whole number of at least 1"),
        ({"question": " "}, "question is ' ': it must be a text"),
        ({"question": "Is {prompt"}, "question: expected '}' before end of string; write {{ or }} for a brace"),
        (
            {"question": "Is {prompt.text}?"},
            "question: `{prompt.text}` must be {prompt} or one plain metadata key; write {{ or }} for a brace",
        ),
        (
            {"question": "Is {} there?"},
            "question: `{}` must be {prompt} or one plain metadata key; write {{ or }} for a brace",
        ),
        ({"mode": "rubric", "criteria": {"a": 3}}, "criteria.a is 3: it must be a text"),
        (
            {"mode": "rubric"},
            "criteria is None: mode rubric needs a mapping, "
            "such as {objects: all the objects are there, style: it looks like a photo}",
        ),
        (
            {"mode": "rubric", "criteria": ["sharp"]},
            "criteria is ['sharp']: mode rubric needs a mapping, "
            "such as {objects: all the objects are there, style: it looks like a photo}",
        ),
        *(
            (
                {"mode": "rubric", "criteria": CRITERIA, "scale": scale},
                f"scale is {scale!r}: it must be two whole numbers, lowest first, such as [1, 5]",
            )
            for scale in (5, [1], [5, 1], [1, 1], [0.5, 2], [True, 5])
        ),
    ],
)
def test_wrong_options_are_named_before_anything_is_asked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        VlmJudge("http://127.0.0.1:9/v1", MODEL, **options)
    at = "vlm_judge.options."
    assert str(caught.value) == at + message


def sees_red(number: int, body: Mapping[str, Any]) -> Answer:
    red, green, _ = picture_of(body).astype(int).transpose(2, 0, 1)
    return yes(0.9 if (red - green > 100).any() else 0.1)


def load(url: str, **options: Any) -> object:
    return load_reward("judge", "vlm_judge", {"url": url, "model": MODEL, **options})


def test_the_golden_probe_asks_about_a_red_disc_and_none() -> None:
    with FakeEndpoint(sees_red) as server:
        load(server.url)
        assert len(server.asked) == 2
        load(server.url, question="Is it sharp?")
        assert len(server.asked) == 3  # what is right is not known here, only that there must be an answer
        load(server.url, question="Is {text} in it?")
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        (yes(), {}, "on its reference picture 'nothing' it scores 0.9, a working one at most 0.5"),
        (yes(0.1), {}, "on its reference picture 'red disc' it scores 0.1, a working one at least 0.5"),
        (chat("Yes"), {"question": "Is it sharp?"}, "it fails: the endpoint gave no `top_logprobs` with its answer"),
        (chat("5"), {"mode": "rubric", "criteria": CRITERIA}, "it fails: no usable answer, asked twice: '5'"),
    ],
)
def test_a_judge_that_cannot_judge_stops_the_run_at_its_start(
    answer: Answer, options: dict[str, Any], message: str
) -> None:
    with always(answer) as server, pytest.raises(UserError) as caught:
        load(server.url, **options)
    assert str(caught.value).startswith("rewards.judge: the golden probe found it dead or wrong: ")
    assert message in str(caught.value)


def test_in_the_pool() -> None:
    options = {"model": MODEL, "question": "Is it bright?"}
    with FakeEndpoint(by_level) as server:
        with RewardPool({"judge": RewardComponent(use="vlm_judge", options={**options, "url": server.url})}) as pool:
            scores = pool.score([sample(64, "a"), sample(192, "b")])["judge"]
        with pytest.raises(UserError) as caught:
            RewardPool({"judge": RewardComponent(use="vlm_judge", options={"url": server.url, "model": "judge-7B"})})
    assert [(score.value, score.passed) for score in scores] == [(0.25, 0.0), (0.75, 1.0)]
    assert str(caught.value) == (
        f"rewards.judge.options.model: {server.url} serves no 'judge-7B', did you mean 'judge-7b'? "
        "(it serves: judge-7b, other)"
    )
