"""What goes to and fro between a run and its workers is small: no hidden states, no weights, no pixels among it."""

from __future__ import annotations

import pickle

import numpy as np
import torch

from policy.prompt import Condition
from rl.cluster.groups import joined, split
from rl.cluster.jobs import Painted, PaintJob, Sampled, SampleJob, bare
from rl.types import Prompt, Rollout, Span

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
    messages = [
        SampleJob([bare(rollout.prompts[0])], [Condition(rollout.prompt_ids[0])], GROUP, rollout.seeds),
        Sampled(3, 1e-6, 5.0, rollout),
        PaintJob(7, rollout),
        Painted(3, 9.0, rollout.seeds, (0.001,) * len(rollout.prompts)),
    ]
    assert sum(len(pickle.dumps(one)) for one in messages) / GROUP < MOST


def test_hidden_states_go_nowhere() -> None:
    (group,) = split(a_real_rollout())
    assert group.hidden_BSD is None
    assert joined([group]).hidden_BSD is None
