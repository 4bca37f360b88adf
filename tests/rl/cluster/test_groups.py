"""Rollouts cut into groups and put together again, and the steps that they make."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rl.cluster.board import StepBoard
from rl.cluster.groups import joined, split
from rl.cluster.jobs import Painted
from rl.run_folder.usage import CallSpan
from rl.scheduler.work import GroupKey
from rl.types import Rollout
from tests.rl.rollouts import a_rollout


def a_telling_rollout(prompts: int, group_size: int) -> Rollout:
    """Every row differs."""
    plain = a_rollout(prompts, group_size)
    rows = np.arange(plain.batch_size)
    return replace(
        plain,
        prompt_ids=tuple((index, 1) for index in range(prompts)),
        tokens_BT=np.stack([rows, rows + 100], 1),
        logprobs_BT=-np.stack([rows, rows], 1).astype(np.float32),
        mask_BT=np.stack([rows % 2 == 0, rows % 3 == 0], 1),
    )


def keys(step: int, *places: int) -> list[GroupKey]:
    return [GroupKey(step, place) for place in places]


def test_what_is_split_comes_together_again() -> None:
    whole = a_telling_rollout(3, 4)
    again = joined(split(whole))
    for name in ("tokens_BT", "logprobs_BT", "mask_BT"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert (again.prompts, again.prompt_ids, again.seeds) == (whole.prompts, whole.prompt_ids, whole.seeds)
    assert [one.tokens_BT[0, 0] for one in split(whole)] == [0, 4, 8]


def test_groups_of_two_versions_are_no_rollout() -> None:
    one, other = split(a_rollout(2, 2))
    with pytest.raises(ValueError, match="groups of several versions or sizes"):
        joined([one, replace(other, version=1)])


def a_call(worker: str = "sampler-0") -> CallSpan:
    return CallSpan(worker, 0, 0.0, 1.0)


def told(seeds: tuple[int, ...], apart: tuple[float, ...], returned: tuple[tuple[int, int], ...] = ()) -> Painted:
    return Painted(3, 1.0, seeds, apart, returned or ((0, 0),) * len(apart))


def test_the_first_result_of_a_group_wins_and_only_it_goes_to_the_rewards() -> None:
    given: list[tuple[GroupKey, int]] = []

    def submit(key: GroupKey, rollout: Rollout, pictures: Any) -> Any:
        given.append((key, int(pictures[0, 0, 0, 0])))
        return SimpleNamespace(key=key, cancel=lambda: given.append((key, -1)))

    board = StepBoard(submit)
    whole, again = a_telling_rollout(3, 2), a_telling_rollout(3, 2)
    board.sampled(keys(7, 0, 1, 2), whole, 0.5, a_call("sampler-0"))
    board.sampled(keys(7, 1), replace(split(again)[1], seeds=(8, 9)), 0.5, a_call("sampler-1"))
    assert board.rollout(keys(7, 1)).seeds == whole.seeds[2:4]
    first = np.zeros((4, 1, 1, 3), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None]
    board.painted(keys(7, 1, 2), first, told((10, 11, 12, 13), (0.25, 0.5), ((3, 4), (1, 4))), a_call("painter-0"))
    board.painted(keys(7, 0), first[:2] + 50, told((1, 2), (0.75,), ((2, 8),)), a_call("painter-1"))
    board.painted(keys(7, 1), first[:2] + 90, told((5, 6), (9.0,), ((4, 4),)), a_call("painter-2"))
    assert given == [(GroupKey(7, 1), 0), (GroupKey(7, 2), 2), (GroupKey(7, 0), 50)]

    step = board.take(keys(7, 2, 0, 1))
    assert step.renders is not None
    assert step.renders.pictures[:, 0, 0, 0].tolist() == [50, 51, 0, 1, 2, 3]
    assert step.renders.seeds == (1, 2, 10, 11, 12, 13)
    assert step.rollout.tokens_BT[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert [one.key.position for one in step.waiting] == [0, 1, 2]  # type: ignore[attr-defined]
    assert (step.mismatch, step.apart) == (0.5, 0.5)  # the mean of the first results
    assert step.returned == 6 / 16
    assert [call.worker for call in step.calls] == ["sampler-0", "sampler-1", "painter-0", "painter-1", "painter-2"]


def test_a_step_without_its_failed_groups(tmp_path: object) -> None:
    board = StepBoard(lambda *_: SimpleNamespace(cancel=lambda: None))  # type: ignore[arg-type]
    board.sampled(keys(0, 0, 1, 2), a_telling_rollout(3, 2), None, a_call())
    board.painted(keys(0, 0, 2), np.zeros((4, 1, 1, 3), np.uint8), told((1, 2, 3, 4), (0.0, 0.0)), a_call())
    step = board.take(keys(0, 0, 2))
    assert step.rollout.tokens_BT[:, 0].tolist() == [0, 1, 4, 5]
    assert step.returned is None  # nobody has looked


def test_what_nobody_waits_for_any_more_is_not_scored() -> None:
    cancelled: list[GroupKey] = []
    board = StepBoard(lambda key, *_: SimpleNamespace(cancel=lambda: cancelled.append(key)))  # type: ignore[arg-type]
    board.sampled(keys(0, 0), a_rollout(1, 2), None, a_call())
    board.painted(keys(0, 0), np.zeros((2, 1, 1, 3), np.uint8), told((1, 2), (0.0,)), a_call())
    board.close()
    assert cancelled == keys(0, 0)


def test_what_is_still_to_be_done_for_the_steps_under_way() -> None:
    scored = iter([True, False, False])
    board = StepBoard(lambda *_: SimpleNamespace(done=next(scored)))  # type: ignore[arg-type]
    board.sampled(keys(4, 0, 1, 2), a_telling_rollout(3, 2), None, a_call())
    board.painted(keys(4, 0, 1, 2), np.zeros((6, 1, 1, 3), np.uint8), told(tuple(range(6)), (0.0,) * 3), a_call())
    board.sampled(keys(5, 0, 1), a_telling_rollout(2, 2), None, a_call())
    assert board.queued(range(4, 7), groups=3) == {"sample": 1 + 3, "paint": 2, "score": 2}
    assert board.queued(range(6, 6), groups=3) == {"sample": 0, "paint": 0, "score": 0}
