"""What goes to and fro between a run and its workers is small: no hidden states, no weights, no pixels among it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, OwnerDiedError, RayTaskError

from policy.prompt import Condition
from rl.cluster import references
from rl.cluster.crew import failure
from rl.cluster.groups import joined, split
from rl.cluster.jobs import Painted, PaintJob, Sampled, SampleJob
from rl.cluster.packed import PackedRollout, bare
from rl.cluster.references import ReferenceLost, StoredReferences, with_references
from rl.cluster.training.messages import Learnt, TokenLesson
from rl.data.pictures import Picture
from rl.tracking.contract import NUMERICS
from rl.types import Experience, Prompt, Renders, Rollout, Scores, Span, UserError
from tests.rl.cluster.faulting.delivery import something_lost

GROUP, TOKENS, HIDDEN, SIDE = 16, 729, 64, 1024
MOST = 20_000  # bytes a picture
_GONE: Any = ("0" * 56, None, "")


def a_real_rollout() -> Rollout:
    rng = np.random.default_rng(0)
    return Rollout(
        prompts=(Prompt("p1", "a photo of two red circles and a cat " * 4, {"tag": "two_object"}),),
        group_size=GROUP,
        prompt_ids=(tuple(range(60)),),
        tokens_BT=rng.integers(151_674, 217_210, (GROUP, TOKENS)),
        logprobs_BT=rng.standard_normal((GROUP, TOKENS)).astype(np.float32),
        seeds=tuple(range(GROUP)),
        temperature=1.0,
        version=3,
        span=Span(151_674, 217_210, length=TOKENS),
        hidden_BSD=torch.zeros(GROUP, TOKENS + 1, HIDDEN),
    )


def test_a_picture_costs_the_driver_a_few_kilobytes() -> None:
    rollout = joined(split(a_real_rollout()))
    acting = [
        SampleJob([bare(rollout.prompts[0])], [Condition(rollout.prompt_ids[0])], GROUP, rollout.seeds),
        Sampled(3, 1e-6, 5.0, PackedRollout.of(rollout)),
        PaintJob(7, PackedRollout.of(rollout), looked_at=range(GROUP)),
        Painted(3, 9.0, rollout.seeds, (0.001,) * len(rollout.prompts), ((700, 729),)),
    ]
    training = [
        TokenLesson.of(learnt_from(rollout), torch.zeros(1, GROUP)),
        Learnt({f"number/{index}": float(index) for index in range(40)}, {"forward": 1.0, "update": 2.0}, 4),
    ]
    to_all, to_trainers = size_a_picture([*acting, *training]), size_a_picture(training)
    print(f"{to_all / 1000:.1f} KB a picture of {TOKENS} tokens, {to_trainers / 1000:.1f} of them for the trainers")
    assert to_all < MOST


def test_a_picture_that_is_to_be_changed_is_named_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1024 px it would be 3.1 MB a group. It is laid down once a step, however often it is named."""
    laid: list[int] = []

    def put(view: NDArray[np.uint8]) -> bytes:
        laid.append(view.nbytes)
        return bytes(len(laid)) * 100

    monkeypatch.setattr(references, "ray", SimpleNamespace(put=put))
    rollout, photo = an_edit(), Picture(np.zeros((3000, 4000, 3), np.uint8))
    stored = StoredReferences(SIDE)
    prompts = [*rollout.prompts, Prompt("p2", "make the sky red", pictures=(photo,)), Prompt("p3", "a red circle")]
    for step in (7, 7, 8):
        names = stored.of(step, prompts)
        assert names[0] is not None and names[1] is not None and names[2] is None
    assert laid == [3 * SIDE**2] * 4  # as large as the decoder sees them
    jobs = [
        SampleJob([bare(rollout.prompts[0])], [Condition(rollout.prompt_ids[0])], GROUP, rollout.seeds),
        Sampled(3, 1e-6, 5.0, PackedRollout.of(rollout)),
        PaintJob(7, PackedRollout.of(rollout), range(GROUP), stored.of(7, rollout.prompts)),
        Painted(3, 9.0, rollout.seeds, (0.001,), ((700, 729),)),
    ]
    taken = size_a_picture(jobs)
    print(f"{taken / 1000:.1f} KB a picture of {TOKENS} tokens that changes one of {SIDE} px")
    assert taken < MOST and len(laid) == 4
    stored.forget(7)
    stored.of(7, rollout.prompts)
    assert len(laid) == 5


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (
            OwnerDiedError(*_GONE),
            "the picture that prompt 'p1' changes is gone from Ray's object store (OwnerDiedError)",
        ),
        (GetTimeoutError(), "the picture that prompt 'p1' changes has not come from Ray's object store within 60 s"),
    ],
)
def test_a_picture_that_is_gone_fails_the_call_alone(
    trouble: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a painter, which goes on: the next job of that step names a new one."""

    def lost(name: object, timeout: float) -> None:
        raise trouble

    monkeypatch.setattr(references, "ray", SimpleNamespace(get=lost))
    with pytest.raises(ReferenceLost) as caught:
        with_references([Prompt("p1", "")], ["a name"])
    assert str(caught.value) == told
    failed = failure(RayTaskError("work", "", caught.value))
    assert (failed.dead, str(failed)) == (False, f"raised ReferenceLost: {told}")


@pytest.mark.slow
def test_the_bytes_of_a_real_message_and_a_real_loss(address: str) -> None:
    """The owner of the object is a process that is dead."""
    rollout = an_edit()
    stored = StoredReferences(SIDE)
    job = PaintJob(7, PackedRollout.of(rollout), range(GROUP), stored.of(7, rollout.prompts))
    (seen,) = with_references(job.rollout.rest.prompts, job.references)
    assert seen.pictures[0].digest == Picture(np.full((SIDE, SIDE, 3), 9, np.uint8)).digest
    written = ray._private.worker.global_worker.get_serialization_context().serialize(job)
    print(f"{written.total_bytes / GROUP / 1000:.2f} KB a picture")
    assert written.total_bytes < MOST / 4 * GROUP
    lost, last = something_lost(), time.monotonic() + 60
    told = ""
    while not told and time.monotonic() < last:  # it is there until the death of its process is noticed
        try:
            with suppress(UserError):  # it holds no picture
                with_references(job.rollout.rest.prompts, [lost])
        except ReferenceLost as error:
            told = str(error)
    assert "'p1' changes is gone from Ray's object store" in told


def an_edit() -> Rollout:
    picture = Picture(np.full((SIDE, SIDE, 3), 9, np.uint8))
    return replace(a_real_rollout(), prompts=(Prompt("p1", "make the cat blue", pictures=(picture,)),))


def size_a_picture(messages: Sequence[object]) -> float:
    return sum(len(pickle.dumps(one)) for one in messages) / GROUP


def learnt_from(rollout: Rollout) -> Experience:
    """With all that a run knows of it."""
    pictures = np.zeros((GROUP, 256, 256, 3), np.uint8)
    scores = Scores({}, np.ones(GROUP, np.float32), np.arange(GROUP) > 0, np.ones(GROUP, np.float32))
    metrics = {"score": 0.5, NUMERICS: 0.001}
    return Experience(7, rollout, Renders(pictures, rollout.seeds, 1), scores, None, None, 3, metrics, {})


def test_what_is_learnt_from_comes_out_as_it_went_in() -> None:
    rollout, advantages_PG = a_real_rollout(), torch.randn(1, GROUP)
    lesson: TokenLesson = pickle.loads(pickle.dumps(TokenLesson.of(learnt_from(rollout), advantages_PG)))
    found = lesson.experience()
    assert (found.step, found.version, found.rollout.version) == (7, 3, 3)
    np.testing.assert_array_equal(found.rollout.tokens_BT, rollout.tokens_BT)
    np.testing.assert_array_equal(found.rollout.logprobs_BT, rollout.logprobs_BT)
    assert (found.rollout.prompt_ids, found.rollout.span) == (rollout.prompt_ids, rollout.span)
    np.testing.assert_array_equal(found.scores.valid_B, np.arange(GROUP) > 0)
    assert torch.equal(lesson.advantages_PG, advantages_PG)
    assert found.metrics == {NUMERICS: 0.001}
    assert found.rollout.hidden_BSD is None and len(found.renders.pictures) == 0


def test_token_ids_are_packed_and_prompts_come_back_where_somebody_has_them() -> None:
    rollout = a_real_rollout()
    packed = PackedRollout.of(rollout)
    assert packed.codes_BT.dtype == np.uint16
    assert packed.rollout().prompts == (Prompt("p1", ""),)
    assert packed.rollout(rollout.prompts).prompts == rollout.prompts
    assert packed.rollout().tokens_BT.dtype == np.int64


def test_hidden_states_go_nowhere() -> None:
    (group,) = split(a_real_rollout())
    assert group.hidden_BSD is None
    assert joined([group]).hidden_BSD is None
