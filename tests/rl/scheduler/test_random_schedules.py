"""Thousands of random schedules: nothing lost, nothing doubled, staleness as asked, the same batches in order."""

from __future__ import annotations

import numpy as np
import pytest

from rl.scheduler.events import Assign, Learn, RunDone, StopRun
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import GroupKey, Stage, WorkPlan
from tests.rl.scheduler.world import Chances, World

SCHEDULES = 1000  # of each kind below


def drawn(seed: int, attempts: int) -> World:
    """A small run: sizes, staleness and all chances of the seed."""
    rng = np.random.default_rng([seed, 1])
    blocks, most = bool(rng.integers(2)), int(rng.integers(1, 4))
    stages = (
        Stage("sample", int(rng.integers(1, 5)), 60.0, blocks),
        Stage("paint", most if blocks else 1, 50.0, blocks),
        Stage("score", 2, 40.0),
    )
    plan = WorkPlan(
        steps=int(rng.integers(1, 7)),
        groups=int(rng.integers(1, 7)),
        staleness=int(rng.integers(0, 5)),
        stages=stages,
        attempts=attempts,
        max_failed=1.0,
        update_deadline=30.0,
    )
    chances = Chances(*(float(rng.uniform(0, most)) for most in (0.1, 0.3, 0.2, 0.03, 0.05, 0.03, 0.1, 0.05)))
    return World(plan, {stage.name: int(rng.integers(1, 4)) for stage in stages}, seed, chances)


def check(world: World) -> None:
    plan = world.plan
    assert list(world.learnt) == list(range(plan.steps))
    for step, order in world.learnt.items():
        everyone = [GroupKey(step, position) for position in range(plan.groups)]
        assert sorted([*order.groups, *order.failed]) == everyone, "a group is lost or doubled"
        assert list(order.groups) == sorted(order.groups)
        assert step - order.version == min(step, plan.staleness)


def test_whatever_happens_every_group_is_learnt_once_or_failed_by_name() -> None:
    for seed in range(SCHEDULES):
        world = drawn(seed, attempts=3).run()
        if isinstance(world.end, StopRun):
            assert "the trainer was lost 3 times" in world.end.why
            continue
        assert world.end == RunDone()
        check(world)
        for order in world.learnt.values():
            assert all(" failed with " in reason for reason in order.failed.values())


def test_with_enough_attempts_the_batches_depend_on_the_plan_alone() -> None:
    for seed in range(SCHEDULES):
        world = drawn(seed, attempts=99).run()
        assert world.end == RunDone(), seed
        check(world)
        assert not any(order.failed for order in world.learnt.values())


def test_a_schedule_repeats_itself() -> None:
    one, other = drawn(7, 99).run(), drawn(7, 99).run()
    assert (one.learnt, one.now, one.scheduler.counts) == (other.learnt, other.now, other.scheduler.counts)


def test_a_run_goes_on_from_its_checkpoint_and_log() -> None:
    """Ended anywhere and started again: the steps that the log lacks are collected with the versions they would have
    had, the ones that it has are replayed."""
    rng = np.random.default_rng(3)
    for seed in range(200):
        world = drawn(seed, attempts=99)
        plan = world.plan
        trained = int(rng.integers(0, plan.steps + 1))
        logged = int(rng.integers(max(trained, plan.log_needed(trained)), plan.steps + 1))
        world.saves_every = max(1, trained)  # no checkpoint older than that
        world.run(Scheduler(plan, trained=trained, collected=logged))
        assert world.end == RunDone()
        fresh = {step: order for step, order in world.learnt.items() if not order.replay}
        assert list(fresh) == list(range(logged, plan.steps))
        assert all(order.version == plan.version_of(step) for step, order in fresh.items())


def test_faults_do_happen_in_these_schedules() -> None:
    seen = sum((drawn(seed, 99).run().scheduler.counts for seed in range(40)), start=Scheduler(WorkPlan(1, 1)).counts)
    for kind in ("deaths", "kills", "late", "second leases", "failed leases", "trainer deaths"):
        assert seen[kind] > 0, kind


@pytest.mark.parametrize("staleness", [0, 1, 2, 7])
def test_no_more_than_eta_steps_are_ahead(staleness: int) -> None:
    plan = WorkPlan(6, 3, staleness)
    world = World(plan, {"sample": 2, "paint": 2, "score": 1}, seed=0)
    open_steps: list[int] = []
    scheduler = Scheduler(plan)
    whole, scheduler.on = scheduler.on, lambda event: _watched(scheduler, whole(event), open_steps)  # type: ignore[method-assign]
    world.run(scheduler)
    assert max(open_steps) == min(staleness, 5)


def _watched(scheduler: Scheduler, actions: list[object], seen: list[int]) -> list[object]:
    seen += [action.lease.step - scheduler.published for action in actions if hasattr(action, "lease")]
    assert not any(isinstance(action, Learn) and action.version > action.step for action in actions)
    return actions


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_blocks_are_the_same_however_many_workers_there_are(workers: int) -> None:
    stages = (Stage("sample", 3, blocks=True), Stage("paint", 2, blocks=True))
    world = World(WorkPlan(4, 7, 1, stages), {"sample": workers, "paint": workers}, seed=workers)
    seen: dict[str, set[tuple[int, ...]]] = {"sample": set(), "paint": set()}
    scheduler = Scheduler(world.plan)
    whole = scheduler.on

    def watched(event: object) -> list[object]:
        actions = whole(event)  # type: ignore[arg-type]
        for action in actions:
            if isinstance(action, Assign):
                seen[action.lease.stage].add(tuple(key.position for key in action.lease.keys))
        return actions  # type: ignore[return-value]

    scheduler.on = watched  # type: ignore[method-assign, assignment]
    assert world.run(scheduler).end == RunDone()
    assert seen == {"sample": {(0, 1, 2), (3, 4, 5), (6,)}, "paint": {(0, 1), (2, 3), (4, 5), (6,)}}
