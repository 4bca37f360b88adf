"""What comes late, out of order or never, and prompts and stores that are of no use: steps are whole all the same."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from ray.exceptions import GetTimeoutError, ObjectStoreFullError, OutOfDiskError, RayTaskError

from rl.scheduler.events import Learn, RunDone
from rl.scheduler.work import GroupKey, Stage, WorkPlan
from rl.types import RunFailure
from tests.rl.cluster.dispatching.fakes import FakeCrew, crews, dispatching, plan


def until(there: Callable[[], bool]) -> None:
    last = time.monotonic() + 20
    while not there():
        assert time.monotonic() < last
        time.sleep(0.01)


def one_by_one(groups: int, steps: int = 1) -> WorkPlan:
    stages = (Stage("sample", 1, 1e6), Stage("paint", 1, 1e6))
    return WorkPlan(steps, groups, 0, stages, absence=1e9, update_deadline=1e9)


def test_answers_that_come_in_another_order_make_the_same_step() -> None:
    workers = crews()
    workers["paint"] = FakeCrew("paint", [f"paint-{number}" for number in range(4)], ["silence"] * 4)
    with dispatching(one_by_one(4), **workers) as (dispatcher, _, _):
        until(lambda: len(workers["paint"].unanswered) == 4)
        for number in (2, 0, 3, 1):
            workers["paint"].answer(number)
        order = dispatcher.next_order()
    assert isinstance(order, Learn)
    assert order.groups == tuple(GroupKey(0, position) for position in range(4))
    assert not order.failed


def test_an_idle_worker_takes_over_from_a_slow_one_and_the_late_answer_is_nobodys() -> None:
    workers = crews()
    workers["sample"].fates = ["silence"]
    with dispatching(one_by_one(8, steps=2), **workers) as (dispatcher, desk, said):
        first = dispatcher.next_order()
        assert isinstance(first, Learn)
        assert len(first.groups) == 8
        assert dispatcher.counts["second leases"] == 1
        taken = len(desk.taken)
        workers["sample"].answer(0)
        until(lambda: dispatcher.counts.get("late", 0) == 1)
        assert len(desk.taken) == taken  # its step is learnt from, and its answer is not even looked at
        dispatcher.published()
        second = dispatcher.next_order()
        assert isinstance(second, Learn)
        assert len(second.groups) == 8
        dispatcher.published()
        assert dispatcher.next_order() == RunDone()
    slow, *others = [(name, job) for name, _, job in workers["sample"].calls if job == "group 0 of step 0"]
    assert slow == ("sample-0", "group 0 of step 0")
    assert others == [("sample-1", "group 0 of step 0")]
    assert said == []  # nobody had to be killed


def test_a_prompt_that_kills_everybody_is_left_out_by_name_and_its_neighbour_is_learnt() -> None:
    workers = crews()
    workers["paint"].poison = "group 1 of step 0"
    with dispatching(plan(1, max_failed=0.5), **workers) as (dispatcher, _, said):
        order = dispatcher.next_order()
    assert isinstance(order, Learn)
    assert order.groups == (GroupKey(0, 0),)
    reason = order.failed[GroupKey(0, 1)]
    assert reason.startswith("paint failed with paint-")
    assert reason.endswith("; the last: died (ActorDiedError: The actor died unexpectedly before finishing this task.)")
    victims = [name for name, _ in workers["paint"].dismissed]
    assert len(set(victims)) == 3  # the attempts that a group has
    assert all(any(sentence.startswith(f"{name} died (") for sentence in said) for name in victims)


@pytest.mark.parametrize("error", [ObjectStoreFullError("no room"), OutOfDiskError("no room"), IndexError("no room")])
def test_a_store_that_is_full_fails_one_call_and_no_worker(error: Exception) -> None:
    """The worker lives, and the pictures are painted again when others have gone."""
    workers = crews()
    workers["paint"].fates = [RayTaskError("work", "", error)]
    with dispatching(plan(1), **workers) as (dispatcher, desk, _):
        order = dispatcher.next_order()
    assert isinstance(order, Learn)
    assert not order.failed
    assert workers["paint"].dismissed == []
    assert len(workers["paint"].calls) == 3
    assert dispatcher.counts["failed leases"] == 1
    assert desk.failures == [("paint", 0)]  # what was laid down for it is laid down anew


def test_pictures_that_cannot_be_laid_down_for_a_painter_are_tried_again() -> None:
    workers = crews()
    full = [ObjectStoreFullError("no room"), OutOfDiskError("no room")]
    with dispatching(plan(1), full=full, **workers) as (dispatcher, _, _):
        order = dispatcher.next_order()
    assert isinstance(order, Learn)
    assert not order.failed
    assert workers["paint"].dismissed == []


def test_a_store_that_stays_full_fails_the_group_by_name() -> None:
    full = [ObjectStoreFullError("no room")] * 100
    with dispatching(plan(1), full=full, **crews()) as (dispatcher, _, _), pytest.raises(RunFailure) as caught:
        dispatcher.next_order()
    assert "its pictures can't be laid into Ray's object store (ObjectStoreFullError)" in str(caught.value)


@pytest.mark.parametrize("trouble", [GetTimeoutError("no answer"), ObjectStoreFullError("no room")])
def test_pictures_that_are_gone_are_painted_again(trouble: Exception) -> None:
    """They were made and lay on a machine that is lost before this one had them."""
    with dispatching(plan(1), troubles=[trouble], **crews()) as (dispatcher, desk, _):
        order = dispatcher.next_order()
    assert isinstance(order, Learn)
    assert not order.failed
    assert dispatcher.counts["failed leases"] == 1
    assert len(desk.taken) == 3  # one block of samples, two of pictures


def test_weights_that_are_never_published_end_the_run_at_the_deadline() -> None:
    with dispatching(plan(2, update_deadline=0.3), **crews()) as (dispatcher, _, _):
        assert isinstance(dispatcher.next_order(), Learn)
        with pytest.raises(RunFailure) as caught:
            dispatcher.next_order()
    assert str(caught.value) == "the trainer has not published after 0 s with step 0"
