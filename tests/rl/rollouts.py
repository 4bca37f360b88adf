"""Rollouts without a policy."""

from __future__ import annotations

import numpy as np

from rl.types import Prompt, Rollout


def a_rollout(prompts: int, group_size: int) -> Rollout:
    batch = prompts * group_size
    return Rollout(
        prompts=tuple(Prompt(f"p{i}", "x") for i in range(prompts)),
        group_size=group_size,
        prompt_ids=((1,),) * prompts,
        tokens_BT=np.zeros((batch, 2), np.int64),
        logprobs_BT=np.zeros((batch, 2), np.float32),
        seeds=tuple(range(batch)),
        temperature=1.0,
        version=0,
    )
