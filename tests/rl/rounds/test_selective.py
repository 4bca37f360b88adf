"""A step that samples until enough groups have a signal, and one whose groups are of unequal sizes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rl.algorithm import advantages
from rl.collectors import Selective, further
from rl.data.drawing.curricula import learnability
from rl.data.drawing.draws import PromptDraws
from rl.data.drawing.group_sizes import GroupSizes, SharedOut, knapsack
from rl.data.stream import PromptStream
from rl.rows import by_group, group_sizes, per_sample
from rl.types import Experience, Prompt, Renders, Score, Scores, UserError
from tests.rl.rollouts import a_rollout

GROUP = 4


class FakeTurn:
    """Of every third prompt, by the number in its id, all samples are equally good; of the others all but the first."""

    trained = ("r",)
    rollout = SimpleNamespace(group_size=GROUP)

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def __call__(
        self, step: int, prompts: Sequence[Prompt], seed: int, *, part: int = 0, group_size: int | None = None
    ) -> Experience:
        size = group_size or GROUP
        self.asked.append((step, part, len(prompts)))
        batch = len(prompts) * size
        total_B = np.ones(batch, np.float32)
        starts = {prompt.id: place for place, prompt in reversed(list(enumerate(prompts)))}
        for prompt_id, place in starts.items():
            total_B[place * size] = float(int(prompt_id) % 3 == 0)
        rollout = a_rollout(len(prompts), size)
        numbers = np.repeat([int(prompt.id) for prompt in prompts], size)
        rollout = type(rollout)(**{**vars(rollout), "prompts": tuple(prompts), "seeds": tuple(numbers.tolist())})
        scores = Scores({"r": [Score(float(one)) for one in total_B]}, total_B, np.ones(batch, bool), total_B)
        pictures = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (batch, 2, 2, 3))
        metrics = {"score": float(total_B.mean()), "images": float(batch), "failed/r": 1.0}
        renders = Renders(pictures, tuple(range(batch)), 1)
        return Experience(step, rollout, renders, scores, None, None, step, metrics, {"sample": 1.0})


def prompts_of(count: int) -> list[Prompt]:
    return [Prompt(str(i), "x", {"tag": "solved" if i % 3 == 0 else "open"}) for i in range(count)]


def selective(
    turn: Any, count: int = 30, sizes: GroupSizes | None = None, budget: int | None = None, per_step: int = 6
) -> Selective:
    curriculum = learnability if sizes else None
    draws = PromptDraws(prompts_of(count), 7, curriculum)
    return Selective(turn, draws, 0, per_step, budget, SharedOut(sizes, 2, 4) if sizes else None)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ((8, 24, 32, 96, 32), 11),  # three of four had a signal
        ((30, 2, 32, 96, 32), 32),  # no more than a step at a time
        ((30, 2, 90, 96, 32), 6),  # nor than there is left
        ((4, 0, 8, 96, 8), 8),
        ((0, 32, 32, 96, 32), 0),
        ((1, 5, 96, 96, 32), 0),
    ],
)
def test_how_many_prompts_a_further_round_samples(asked: tuple[int, int, int, int, int], count: int) -> None:
    assert further(*asked) == count


def test_a_step_samples_until_enough_groups_have_a_signal() -> None:
    turn = FakeTurn()
    one, two = selective(turn, budget=18).collect(0, 2)
    for found in (one, two):
        assert len(found.rollout.prompts) == 6
        assert all(int(prompt.id) % 3 for prompt in found.rollout.prompts)
        assert [len(found.renders.pictures), len(found.scores.by_reward["r"])] == [24, 24]
        numbers = np.repeat([int(prompt.id) for prompt in found.rollout.prompts], GROUP).tolist()
        assert list(found.rollout.seeds) == numbers  # rows stay with their prompts
        assert found.renders.pictures[:, 0, 0, 0].tolist() == numbers
        sampled = sum(count for step, _, count in turn.asked if step == found.step)
        rounds = sum(step == found.step for step, _, _ in turn.asked)
        assert found.metrics["groups/sampled"] == sampled > 6
        assert found.metrics["groups/rounds"] == rounds == found.seconds["sample"] == found.metrics["failed/r"]
        assert found.metrics["images"] == sampled * GROUP
        solved, missed = found.metrics["task/solved/groups"], found.metrics["task/open/groups"]
        assert solved + missed == sampled
        # the score of all that was sampled, not of what is kept
        assert found.metrics["score"] == pytest.approx((solved * 1.0 + missed * 0.75) / sampled)
        assert (found.metrics["task/open/success"], found.metrics["task/solved/signal"]) == (0.75, 0.0)
    assert {*(p.id for p in one.rollout.prompts)}.isdisjoint(p.id for p in two.rollout.prompts)
    parts = [part for step, part, _ in turn.asked if step == 0]
    assert parts == list(range(len(parts)))


def test_a_step_makes_do_when_its_budget_is_used_up() -> None:
    turn = FakeTurn()
    [found] = selective(turn, budget=7).collect(0, 1)
    assert [count for _, _, count in turn.asked] == [6, 1]
    assert 0 < len(found.rollout.prompts) <= 6
    assert found.metrics["groups/sampled"] == 7


def test_one_group_is_left_where_none_has_a_signal() -> None:
    turn, draws = FakeTurn(), PromptDraws([Prompt(str(3 * i), "x") for i in range(9)], 7)
    [found] = Selective(turn, draws, 0, 3, budget=6).collect(0, 1)  # type: ignore[arg-type]
    assert (len(found.rollout.prompts), found.metrics["groups/sampled"]) == (1, 6)
    assert found.metrics["task/untagged/signal"] == 0


def test_a_resumed_run_samples_what_an_uninterrupted_one_samples() -> None:
    whole = list(selective(FakeTurn(), budget=18).collect(0, 5))
    first, resumed = selective(FakeTurn(), budget=18), selective(FakeTurn(), budget=18)
    list(first.collect(0, 2))
    resumed.draws.state = json.loads(json.dumps(first.draws.state))
    rest = list(resumed.collect(2, 5))
    assert [one.rollout.prompts for one in rest] == [one.rollout.prompts for one in whole[2:]]
    assert [one.metrics for one in rest] == [one.metrics for one in whole[2:]]


def test_a_step_that_fails_has_used_nothing_up() -> None:
    def broken(*_: object, **__: object) -> Experience:
        raise UserError("the reward is gone")

    collector = selective(broken, budget=18)
    with pytest.raises(UserError):
        next(collector.collect(0, 1))
    assert collector.draws.state == {"places": {}, "tasks": {}}


def test_without_a_curriculum_the_first_round_is_an_epochs_beginning_as_ever() -> None:
    [found] = selective(FakeTurn(), budget=6).collect(0, 1)
    usual = PromptStream(prompts_of(30), 6, 7).at(0)
    assert [p.id for p in found.rollout.prompts] == [p.id for p in usual if int(p.id) % 3]


def test_hard_tasks_get_larger_groups() -> None:
    collector = selective(FakeTurn(), sizes=knapsack)
    even, uneven = collector.collect(0, 2)
    assert group_sizes(even.rollout) == [4] * 6  # nothing is known yet
    sizes = group_sizes(uneven.rollout)
    tags = [tags["tag"] for tags in {one.id: one.metadata for one in uneven.rollout.prompts}.values()]
    assert sum(sizes) == 24 and all(size % 2 == 0 for size in sizes)
    assert min(size for size, tag in zip(sizes, tags, strict=True) if tag == "open") > 2
    assert {size for size, tag in zip(sizes, tags, strict=True) if tag == "solved"} == {2}
    total_PG, valid_PG = (by_group(values, uneven.rollout) for values in (uneven.scores.total_B, uneven.scores.valid_B))
    assert valid_PG.sum(-1).tolist() == sizes
    for advantage in (advantages.grpo, advantages.dr_grpo, advantages.rloo):
        found_B = per_sample(advantage(total_PG, valid_PG), uneven.rollout)
        alone = [
            advantage(rewards[None], torch.ones(1, len(rewards), dtype=torch.bool))[0]
            for rewards in torch.from_numpy(uneven.scores.total_B).split(sizes)
        ]
        torch.testing.assert_close(found_B, torch.cat(alone))


@pytest.mark.parametrize("answer", [[1] * 6, [2, 2, 2, 2, 2, 3], [0, 4, 2, 2, 2, 2], [2.0] * 6])
def test_sizes_that_do_not_fit_are_refused(answer: list[Any]) -> None:
    collector = selective(FakeTurn(), sizes=lambda *_: answer)
    with pytest.raises(UserError, match=r"groups.sizes answered \[.*\]; it must answer a whole number of at"):
        next(collector.collect(0, 1))
