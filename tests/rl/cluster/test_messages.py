"""What goes to and fro between a run and its workers is small: no hidden states, no weights, no pixels among it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import torch

from policy.prompt import Condition
from rl.cluster.groups import joined, split
from rl.cluster.jobs import Painted, PaintJob, Sampled, SampleJob
from rl.cluster.packed import PackedRollout, bare
from rl.cluster.training.messages import Learnt, TokenLesson
from rl.tracking.contract import NUMERICS
from rl.types import Experience, Prompt, Renders, Rollout, Scores, Span

GROUP, TOKENS, HIDDEN = 16, 729, 64
MOST = 20_000  # bytes a picture


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
