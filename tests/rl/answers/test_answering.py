"""Questions beside prompts for pictures: each is shown by itself, and all come back in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from policy.base import Policy
from rl.answers.answering import Shown, WordAnswers, by_kind, describe_answers, kinds_of
from rl.types import Prompt, Rollout, Score, Span, UserError


def test_held_out_prompts_of_both_kinds_come_back_in_order() -> None:
    prompts = [Prompt(name, "x", {"task": "answer"} if name in "bd" else {}) for name in "abcd"]
    asked: list[list[str]] = []

    def show(some: Sequence[Prompt], seeds: Sequence[int]) -> Shown:
        asked.append([one.id for one in some])
        return np.array([[[[seed] * 3]] for seed in seeds], np.uint8), {"r": [Score(float(seed)) for seed in seeds]}

    pictures, scores = by_kind(prompts, 2, range(8), show)
    assert asked == [["a", "c"], ["b", "d"]]
    assert pictures[:, 0, 0, 0].tolist() == [one.value for one in scores["r"]] == list(range(8))
    asked.clear()
    by_kind(prompts[:1], 2, range(2), show)
    assert asked == [["a"]]


def test_prompts_of_both_kinds_are_told_apart() -> None:
    prompts = [Prompt(name, "x", {"task": "answer"} if name in "ac" else {}) for name in "abcd"]
    assert [[one.id for one in found] for found in kinds_of(prompts)] == [["b", "d"], ["a", "c"]]
    assert kinds_of(prompts[:1]) == [prompts[:1]] and kinds_of(prompts[1:2]) == [prompts[1:2]]


def test_a_policy_without_an_end_answers_nothing(tiny_policy: object) -> None:
    answering = WordAnswers(Policy.load(str(tiny_policy)), 4)
    question = Prompt("q", "x", {"task": "answer"})
    assert answering.span([Prompt("a", "x")]) is None  # and nobody looks whether it could answer
    with pytest.raises(UserError, match="tokenizer has no <.im_end.>"):
        answering.span([question])


def test_lengths_and_answers_without_an_end_are_logged() -> None:
    tokens_BT = np.array([[3, 9, 9], [3, 4, 5]])
    rollout = Rollout(
        (Prompt("q", "x"),), 2, ((1,),), tokens_BT, np.zeros((2, 3), np.float32), (0, 1), 1.0, 0,
        mask_BT=np.array([[True, True, False], [True] * 3]), span=Span(2, 10, max_length=3, end=9),
    )  # fmt: skip
    assert describe_answers(rollout) == {"answer/length": 2.5, "answer/unended": 0.5}
