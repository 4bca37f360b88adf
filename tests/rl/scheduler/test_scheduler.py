"""One thing at a time: who gets what, who is to blame, and what a run goes on from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rl.scheduler.events import (
    Action,
    Answered,
    Assign,
    DropWeights,
    Event,
    KillTrainer,
    KillWorker,
    Learn,
    LeaseFailed,
    Published,
    RunDone,
    StopRun,
    TimePassed,
    TrainerDied,
    TrainerReady,
    WorkerDied,
    WorkerReady,
)
from rl.scheduler.pools import even_share
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import GroupKey, Lease, Stage, WorkPlan

ONE_STAGE = (Stage("sample", most_groups=4, deadline=100.0),)


def plan(steps: int = 3, groups: int = 4, staleness: int = 0, **options: float) -> WorkPlan:
    return WorkPlan(steps, groups, staleness, ONE_STAGE, **options)  # type: ignore[arg-type]


def tell(scheduler: Scheduler, *events: Event) -> list[Action]:
    return [action for event in events for action in scheduler.on(event)]


def ready(*workers: str, at: float = 0.0) -> list[WorkerReady]:
    return [WorkerReady(at, worker, "sample") for worker in workers]


def leases(actions: Sequence[Action]) -> list[Lease]:
    return [action.lease for action in actions if isinstance(action, Assign)]


def test_with_staleness_0_and_one_worker_each_the_order_is_the_serial_loops() -> None:
    """What ``rl.collectors.Serial`` and ``rl.loop`` do: sample, paint, score, learn, one step after the other."""
    stages = (Stage("sample", 2), Stage("paint", 2), Stage("score", 2))
    scheduler, done = Scheduler(WorkPlan(3, 2, 0, stages)), []
    waiting = tell(scheduler, *(WorkerReady(0.0, stage.name, stage.name) for stage in stages), TrainerReady(0.0, 0))
    while waiting:
        match waiting.pop(0):
            case Assign(lease):
                assert lease.keys == (GroupKey(lease.step, 0), GroupKey(lease.step, 1)) and lease.version == lease.step
                done.append((lease.step, lease.stage))
                waiting += tell(scheduler, Answered(0.0, lease, lease.version))
            case Learn() as order:
                done.append((order.step, "learn"))
                waiting += tell(scheduler, Published(0.0, order))
    assert done == [(step, what) for step in range(3) for what in ("sample", "paint", "score", "learn")]


def test_groups_are_shared_evenly_among_workers() -> None:
    found = leases(tell(Scheduler(plan(groups=5)), *ready("a"), TrainerReady(0.0, 0)))
    assert [len(lease.keys) for lease in found] == [3]  # two rounds of at most 4 for 5 groups
    assert even_share(32, 3, 8) == 6 and even_share(32, 2, 16) == 16 and even_share(3, 8, 16) == 1


def test_a_dead_workers_groups_go_to_another_with_the_same_version() -> None:
    scheduler = Scheduler(plan())
    (lease,) = leases(tell(scheduler, *ready("a"), TrainerReady(0.0, 0)))
    assert tell(scheduler, WorkerDied(1.0, "a", "out of memory"), WorkerDied(1.1, "a", "again")) == []
    assert scheduler.counts["deaths"] == 1
    (again,) = leases(tell(scheduler, *ready("b", at=2.0)))
    assert (again.keys, again.version, again.worker) == (lease.keys, lease.version, "b")
    # the first result wins, whoever it is from: the answer of the dead one was on its way
    (order,) = [a for a in tell(scheduler, Answered(3.0, lease, 0)) if isinstance(a, Learn)]
    assert order.groups == lease.keys
    tell(scheduler, Answered(4.0, again, 0))
    assert scheduler.counts["late"] == 4


def test_a_group_that_kills_everybody_fails_alone_and_by_name() -> None:
    """Its last attempt is made without neighbours, which come through."""
    scheduler, poison = Scheduler(plan(steps=1, max_failed=0.5)), GroupKey(0, 2)
    waiting = tell(scheduler, *ready("w0"), TrainerReady(0.0, 0))
    for number in range(1, 20):
        (lease,) = leases(waiting)
        if poison in lease.keys:
            waiting = tell(scheduler, WorkerDied(number, lease.worker, "illegal instruction"))
            waiting += tell(scheduler, *ready(f"w{number}", at=number))
        else:
            waiting = tell(scheduler, Answered(number, lease, 0))
        if orders := [action for action in waiting if isinstance(action, Learn)]:
            break
    assert orders[0].groups == (GroupKey(0, 0), GroupKey(0, 1), GroupKey(0, 3))
    reason = orders[0].failed[poison]
    assert reason.startswith("sample failed with w0, w1, ") and reason.endswith("; the last: illegal instruction")


def test_too_many_failed_groups_end_the_run() -> None:
    scheduler = Scheduler(plan(attempts=1))
    (lease,) = leases(tell(scheduler, *ready("a"), TrainerReady(0.0, 0)))
    (stop,) = [a for a in tell(scheduler, LeaseFailed(1.0, lease, "no such file")) if isinstance(a, StopRun)]
    assert stop.why == ("4 of 4 groups of step 0 have failed; the first: sample failed with a; the last: no such file")
    assert tell(scheduler, *ready("b"), TimePassed(9e9)) == []  # it has ended


def test_a_worker_that_fails_whatever_it_gets_is_killed_and_the_groups_come_through_elsewhere() -> None:
    scheduler = Scheduler(plan(steps=1, groups=12))
    waiting = tell(scheduler, *ready("bad", "good"), TrainerReady(0.0, 0))
    kills, orders, now = [], [], 0.0
    while not orders:
        now += 1
        kills += [action for action in waiting if isinstance(action, KillWorker)]
        orders = [action for action in waiting if isinstance(action, Learn)]
        found, waiting = leases(waiting), []
        for lease in found:
            answer = LeaseFailed(now, lease, "CUDA error") if lease.worker == "bad" else Answered(now, lease, 0)
            waiting += tell(scheduler, answer)
    assert kills == [KillWorker("bad", "bad has failed 3 times in a row; the last: CUDA error")]
    assert len(orders[0].groups) == 12 and not orders[0].failed


def test_who_does_not_answer_is_killed_at_its_deadline_and_named() -> None:
    scheduler = Scheduler(WorkPlan(1, 7, 0, (Stage("sample", deadline=100.0),)))
    silent, *quick = leases(tell(scheduler, *ready("silent", "quick"), TrainerReady(0.0, 0)))
    assert scheduler.wake_at() == 100.0
    for at in range(2, 14, 2):
        quick = leases(tell(scheduler, Answered(at, quick[0], 0)))
    (second,) = quick  # the idle one is given the group of the slow one as well
    assert second.keys == silent.keys and scheduler.counts["second leases"] == 1
    tell(scheduler, WorkerDied(13.0, "quick", "node lost"))
    (kill,) = tell(scheduler, TimePassed(100.0))
    assert kill == KillWorker(
        "silent",
        "silent has not answered for 100 s: sample of group 0 of step 0 with the weights of version 0; others take 2 s",
    )
    (again,) = leases(tell(scheduler, *ready("new", at=101.0)))
    assert again.keys == silent.keys


def test_weights_of_another_version_are_refused() -> None:
    scheduler = Scheduler(plan(staleness=2))
    (lease,) = leases(tell(scheduler, *ready("a"), TrainerReady(0.0, 0)))
    (kill,) = [a for a in tell(scheduler, Answered(1.0, lease, 3)) if isinstance(a, KillWorker)]
    assert kill.why == "a used the weights of version 3 where 0 was asked for, in sample of groups 0-3 of step 0"
    (again,) = leases(tell(scheduler, *ready("b", at=2.0)))
    assert again.keys == lease.keys


def test_a_trainer_that_does_not_publish_is_killed_and_learns_again_from_its_checkpoint() -> None:
    scheduler = Scheduler(plan(update_deadline=50.0))
    (lease,) = leases(tell(scheduler, *ready("a"), TrainerReady(0.0, 0)))
    (order,) = [a for a in tell(scheduler, Answered(1.0, lease, 0)) if isinstance(a, Learn)]
    assert scheduler.wake_at() == 51.0
    assert tell(scheduler, TimePassed(51.0)) == [KillTrainer("the trainer has not published after 50 s with step 0")]
    assert tell(scheduler, Published(52.0, order)) == []  # late, from the one that was killed
    (again,) = tell(scheduler, TrainerReady(53.0, 0))
    assert isinstance(again, Learn) and again.step == 0 and again.replay
    assert any(isinstance(action, Assign) for action in tell(scheduler, Published(54.0, again)))


def test_a_trainer_that_dies_again_and_again_at_one_step_ends_the_run() -> None:
    scheduler = Scheduler(plan())
    (lease,) = leases(tell(scheduler, *ready("a"), TrainerReady(0.0, 0)))
    found = tell(scheduler, Answered(1.0, lease, 0))
    for at in (2.0, 3.0, 4.0):
        found = tell(scheduler, TrainerDied(at, "rank 1: out of memory"), TrainerReady(at, 0))
    assert found == [StopRun("the trainer was lost 3 times before it had learnt step 0: rank 1: out of memory")]


def test_replayed_steps_are_no_progress() -> None:
    """A step that kills the trainer does so again after each replay of the one before."""
    scheduler = Scheduler(plan())
    waiting, deaths = tell(scheduler, *ready("a"), TrainerReady(0.0, 0)), 0
    while not isinstance(action := waiting.pop(0), StopRun):
        match action:
            case Assign(lease):
                waiting += tell(scheduler, Answered(0.0, lease, lease.version))
            case Learn(step=0) as order:
                waiting += tell(scheduler, Published(0.0, order))
            case Learn(step=1):
                deaths += 1
                waiting += tell(scheduler, TrainerDied(0.0, "loss is not finite"), TrainerReady(0.0, 0))
    assert deaths == 3
    assert action.why == "the trainer was lost 3 times before it had learnt step 1: loss is not finite"


def test_weights_of_a_future_that_was_never_collected_end_the_run() -> None:
    found = tell(Scheduler(plan()), TrainerReady(0.0, 2))
    assert found == [StopRun("the trainer came with weights of version 2 after 0 collected steps")]


def test_nobody_is_waited_for_longer_than_said() -> None:
    scheduler = Scheduler(plan(absence=60.0))
    tell(scheduler, *ready("a"), TrainerReady(0.0, 0), WorkerDied(5.0, "a", "node lost"))
    assert tell(scheduler, TimePassed(60.0)) == [] and scheduler.wake_at() == 65.0
    assert tell(scheduler, TimePassed(65.0)) == [
        StopRun("no worker for sample has been there for 60 s; the last lost: a: node lost")
    ]
    alone = Scheduler(plan(absence=60.0))
    tell(alone, *ready("a"))
    assert tell(alone, TimePassed(60.0)) == [StopRun("no trainer has been there for 60 s")]


def test_a_slow_workers_groups_are_given_to_an_idle_one_as_well() -> None:
    scheduler = Scheduler(WorkPlan(1, 7, 0, (Stage("sample", deadline=1000.0),), slow_factor=10.0))
    slow, *quick = leases(tell(scheduler, *ready("slow", "quick"), TrainerReady(0.0, 0)))
    for at in range(2, 14, 2):
        quick = leases(tell(scheduler, Answered(at, quick[0], 0)))
    assert quick == [] and scheduler.wake_at() == 20.0  # ten times the usual 2 s
    (second,) = leases(tell(scheduler, TimePassed(20.0)))
    assert (second.keys, second.worker) == (slow.keys, "quick")
    (order,) = tell(scheduler, Answered(22.0, second, 0))
    assert isinstance(order, Learn) and len(order.groups) == 7
    assert tell(scheduler, Answered(30.0, slow, 0)) == [] and scheduler.counts["late"] == 1


def test_weights_are_dropped_when_nobody_can_ask_for_them() -> None:
    scheduler = Scheduler(plan(steps=4, staleness=1))
    dropped: list[int] = []
    waiting = tell(scheduler, *ready("a"), TrainerReady(0.0, 0))
    while waiting:
        match waiting.pop(0):
            case Assign(lease):
                assert lease.version not in dropped
                waiting += tell(scheduler, Answered(0.0, lease, lease.version))
            case Learn() as order:
                waiting += tell(scheduler, Published(0.0, order))
            case DropWeights(version):
                dropped.append(version)
            case RunDone():
                break
    assert dropped == [0, 1, 2]


def test_a_run_goes_on_exactly_only_if_its_log_reaches_far_enough() -> None:
    """Steps 10 and 11 were sampled with versions 8 and 9, which a checkpoint of version 10 can't make again."""
    eta2 = WorkPlan(20, 4, staleness=2)
    assert (eta2.log_needed(0), eta2.log_needed(10), eta2.log_needed(19)) == (0, 12, 20)
    Scheduler(eta2, trained=10, collected=12)
    assert Scheduler(eta2, trained=12, oldest=10).collected == 12  # versions 10 and 11 are still there
    with pytest.raises(ValueError) as caught:
        Scheduler(eta2, trained=10, collected=11)
    assert str(caught.value) == (
        "weights of version 10 with logged steps below 11: with a staleness of 2 the log has to hold all steps below 12"
    )


def test_a_finished_run_has_nothing_to_do() -> None:
    scheduler = Scheduler(plan(steps=3), trained=3)
    assert tell(scheduler, *ready("a"), TrainerReady(0.0, 3)) == [RunDone()]
