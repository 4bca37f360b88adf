"""The reward of answers in words: what is right, and what people were paid for elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rewards.cache import content_hash
from rewards.check.samples import trial_samples
from rewards.golden import prove
from rewards.library.answer.match import as_number, metadata_problem
from rewards.library.answer.reward import AnswerMatch
from rewards.pool.pool import RewardPool
from rewards.remote.request_pictures import PromptPictures
from rewards.remote.wire import RequestLimits, encode_sample, join_request, parse_request, to_sample
from rl.config.schema import RewardComponent
from rl.types import Prompt, Sample, UserError, WrittenAnswer

BLANK = np.zeros((8, 8, 3), np.uint8)


def sample(right: object, said: str | None, *, complete: bool = True, task: str = "answer") -> Sample:
    metadata = {"task": task} if right is None else {"task": task, "answer": right}
    answer = None if said is None else WrittenAnswer(said, complete)
    return Sample("s", "p", Prompt("p", "what color is it?", metadata), BLANK, answer)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ("red", "red"),
        ("left of", " Left  of. "),
        ("CAT", "C A T"),
        ("caf\u00e9", "cafe\u0301"),
        (3, "three"),
        (3, "3"),
        (1200, "1,200.0"),
        (["left of", "to the left"], "to the left"),
        ([2, "a pair"], "two"),
    ],
)
def test_right_answers(right: object, said: str) -> None:
    (score,) = AnswerMatch()([sample(right, said)])
    assert (score.value, score.passed, score.details["reason"]) == (1.0, 1.0, "")


@pytest.mark.parametrize(
    ("right", "said", "reason"),
    [
        ("red", "blue", "another answer"),
        ("red", "", "empty"),
        ("red", " . ", "empty"),
        ("red", "red or blue or green", "says more than the right answer"),
        ("A", "A B C D", "another answer"),
        ("A", "A or B", "says more than the right answer"),
        ("red", "reddish", "another answer"),
        (["yes", "no"], "yes no", "says more than the right answer"),
        (3, "3 or 4", "is no number"),
        (3, "4", "another answer"),
        (3, "inf", "is no number"),
        (3, "many", "is no number"),
    ],
)
def test_wrong_answers_get_nothing_and_the_reason(right: object, said: str, reason: str) -> None:
    (score,) = AnswerMatch()([sample(right, said)])
    assert (score.value, score.passed, score.failure) == (0.0, 0.0, None)
    assert score.details["reason"] == reason


def test_an_answer_without_an_end_is_wrong_and_counted() -> None:
    cut, whole = AnswerMatch()([sample("red", "red", complete=False), sample("red", "red")])
    assert cut.value == 0.0 and cut.details["reason"] == "no end: it was cut off before it said that it had ended"
    assert (cut.details["complete"], whole.details["complete"]) == (False, True)


def test_numbers_within_a_tolerance() -> None:
    found = AnswerMatch(tolerance=0.05)([sample(100, "104"), sample(100, "106"), sample("100", "104")])
    assert [one.value for one in found] == [1.0, 0.0, 0.0]
    assert [as_number(text) for text in ("-2.5", ".5", "+7", "", ".", "1,23", "\u0663")] == [-2.5, 0.5, 7, *[None] * 4]


def test_what_does_not_apply_and_what_fails() -> None:
    reward = AnswerMatch()
    drawn, other, unsaid = reward([sample("red", None, task="draw"), sample(None, "red"), sample("red", None)])
    assert (drawn.value, drawn.failure, other.value, other.failure) == (None, None, None, None)
    assert unsaid.failure == "prompt 'p' is a question, and the sample holds no answer"
    (wrong,) = reward([sample([], "red")])
    assert wrong.failure == f"prompt 'p': {metadata_problem({'answer': []})}"


@pytest.mark.parametrize("given", ["", " . ", [], [True], {"a": 1}, float("nan")])
def test_metadata_that_cannot_be_judged(given: object) -> None:
    found = metadata_problem({"answer": given})
    assert found is not None and "it must be a text that is not blank, a number, or a list" in found
    assert metadata_problem({}) is None is metadata_problem({"answer": [1, "one"]})


def test_wrong_options_are_told() -> None:
    with pytest.raises(UserError, match="answer.options.tolerance is 1: it must be a number from 0 to below 1"):
        AnswerMatch(tolerance=1)


def test_it_proves_itself() -> None:
    assert prove(AnswerMatch())
    for one in AnswerMatch()(trial_samples(AnswerMatch().trial_prompts())):
        assert one.value in (0.0, 1.0)


def test_answers_go_to_a_worker_and_over_the_wire() -> None:
    samples = [sample("red", "red"), sample("red", "red", complete=False), sample("red", "blue")]
    with RewardPool({"answer": RewardComponent(use="answer")}) as pool:
        assert [one.value for one in pool.score(samples)["answer"]] == [1.0, 0.0, 0.0]
    sent = [*samples, sample("red", None)]
    rows = [encode_sample(replace(one, id=f"{number}"), "png", PromptPictures()) for number, one in enumerate(sent)]
    assert ["answer" in json.loads(row) for row in rows] == [True, True, True, False]
    request = parse_request(join_request("answer", rows, [], "png"), RequestLimits())
    assert [to_sample(one, BLANK, {}).answer for one in request.samples] == [one.answer for one in sent]


def test_scores_are_kept_by_what_was_said() -> None:
    said = [("red", True), ("blue", True), ("red", False), (None, True)]
    hashes = {content_hash(sample("red", text, complete=complete)) for text, complete in said}
    assert len(hashes) == 4
