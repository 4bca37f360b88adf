"""The scheduler's hands with workers that are a few lines: who gets what, and what becomes of answers and deaths."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from rl.scheduler.events import Learn, RunDone
from rl.scheduler.work import Stage, WorkPlan
from rl.types import RunFailure
from rollout.weights import SyncError
from tests.rl.cluster.dispatching.fakes import crews, dispatching, plan


def test_every_step_is_made_with_its_weights_and_learnt_in_order() -> None:
    workers = crews()
    with dispatching(plan(4, staleness=1), **workers) as (dispatcher, desk, _):
        for step in range(4):
            order = dispatcher.next_order()
            assert isinstance(order, Learn)
            assert (order.step, order.version) == (step, max(0, step - 1))
            dispatcher.published()
        assert dispatcher.next_order() == RunDone()
    asked = [(version - 100, job) for _, version, job in workers["sample"].calls]
    assert asked == [(max(0, step - 1), f"groups 0-1 of step {step}") for step in range(4)]
    assert [taken for taken in desk.taken if taken[1] == 3] == [
        ("sample", 3, None),
        ("paint", 3, "pictures"),
        ("paint", 3, "pictures"),
    ]
    assert desk.dropped == [0, 1, 2]


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        (ActorDiedError(), "died (ActorDiedError: The actor died unexpectedly before finishing this task.)"),
        (
            RayTaskError("work", "", SyncError("canary of version 1: engine and trainer differ")),
            "canary of version 1: engine and trainer differ",
        ),
        (99, "sample-0 used the weights of version -1 where 0 was asked for"),
    ],
)
def test_a_worker_that_is_of_no_more_use_is_replaced_and_its_work_done_by_another(fate: object, told: str) -> None:
    workers = crews()
    workers["sample"].fates = [fate]
    with dispatching(plan(1), **workers) as (dispatcher, desk, said):
        order = dispatcher.next_order()
        assert isinstance(order, Learn)
        assert not order.failed
    assert [(name, job) for name, _, job in workers["sample"].calls] == [
        ("sample-0", "groups 0-1 of step 0"),
        ("sample-1", "groups 0-1 of step 0"),
    ]
    [(name, reason)] = workers["sample"].dismissed
    assert name == "sample-0"
    assert told in reason
    assert any(told in sentence for sentence in said)
    assert [stage for stage, *_ in desk.taken] == ["sample", "paint", "paint"]


def test_pictures_of_another_decoder_than_was_asked_for_are_painted_again() -> None:
    workers = crews()
    workers["paint"].fates = [SimpleNamespace(version=100, decoder=7)]  # the language model's are right
    with dispatching(plan(1), **workers) as (dispatcher, desk, _):
        assert isinstance(dispatcher.next_order(), Learn)
    assert [name for name, _ in workers["paint"].dismissed] == ["paint-0"]
    assert [stage for stage, *_ in desk.taken] == ["sample", "paint", "paint"]


def test_a_worker_that_raises_lives_and_the_group_is_tried_by_another() -> None:
    workers = crews()
    workers["paint"].fates = [RayTaskError("work", "", IndexError("no way through"))]
    with dispatching(plan(1), **workers) as (dispatcher, _, _):
        assert isinstance(dispatcher.next_order(), Learn)
    assert workers["paint"].dismissed == []
    assert len(workers["paint"].calls) == 3


def test_a_group_that_everybody_fails_on_ends_the_run_by_name() -> None:
    workers = crews()
    workers["paint"].fates = [RayTaskError("work", "", IndexError("no way through"))] * 9
    with dispatching(plan(1, max_failed=0.1), **workers) as (dispatcher, _, _), pytest.raises(RunFailure) as caught:
        dispatcher.next_order()
    assert "2 of 2 groups of step 0 have failed; the first: paint failed with paint-" in str(caught.value)
    assert str(caught.value).endswith("the last: raised IndexError: no way through")


def test_a_fault_of_our_own_is_told_and_nobody_waits_for_ever() -> None:
    workers = crews()
    with (
        dispatching(plan(1), troubles=[KeyError("no such place")], **workers) as (dispatcher, _, _),
        pytest.raises(RunFailure, match="what gives the cluster its work broke: KeyError: 'no such place'"),
    ):
        dispatcher.next_order()


def test_a_worker_that_says_nothing_is_killed_by_name() -> None:
    workers = crews()
    workers["sample"].fates = ["silence"]
    patient = WorkPlan(
        1, 2, 0, (Stage("sample", 2, 0.2, blocks=True), Stage("paint", 1, 1e6, blocks=True)), absence=1e9
    )
    with dispatching(patient, **workers) as (dispatcher, _, said):
        assert isinstance(dispatcher.next_order(), Learn)
    [(name, why)] = workers["sample"].dismissed
    assert name == "sample-0"
    assert "sample-0 has not answered for 0 s: sample of groups 0-1 of step 0 with the weights of version 0" in why
    assert said
    assert threading.active_count() < 50
