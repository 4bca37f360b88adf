"""Small inputs for every kind: random, but always the same; with what makes real batches awkward in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl.types import Forward, TokenBatch

B, T, D = 6, 5, 8
ADVANTAGES = (1.5, -1.0, 0.5, 0.0, -0.5, 2.0)


def token_logprobs(seed: int, near: Tensor | None = None) -> Tensor:
    """Log-probs of tokens, about -2; ``near``: those of another policy, up to a tenth away."""
    generator = torch.Generator().manual_seed(seed)
    if near is not None:
        return near.detach() + 0.1 * (2 * torch.rand(B, T, generator=generator) - 1)
    return -0.2 - 4 * torch.rand(B, T, generator=generator)


def loss(sequences: bool = False) -> tuple[Tensor, ...]:
    """The first update: the policy is the one that sampled. ``sequences``: and which tokens were sampled, here all."""
    now_BT = token_logprobs(0)
    given = (now_BT.clone().requires_grad_(), now_BT, torch.tensor(ADVANTAGES))
    return (*given, *_all_sampled(sequences))


def advantage() -> tuple[Tensor, ...]:
    """Four prompts with six samples: a failed reward, rewards that are all equal, a single valid one."""
    rewards_PG = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    valid_PG = torch.ones(4, 6, dtype=torch.bool)
    rewards_PG[0, 2], valid_PG[0, 2] = torch.nan, False
    rewards_PG[2] = 0.5
    valid_PG[3, 1:] = False
    return rewards_PG, valid_PG


def aggregation() -> tuple[Tensor, ...]:
    """A sample without a reward and one that ended early."""
    mask_BT = torch.ones(B, T, dtype=torch.bool)
    mask_BT[1] = False
    mask_BT[2, 3:] = False
    return (mask_BT,)


def kl() -> tuple[Tensor, ...]:
    reference_BT = token_logprobs(2)
    return token_logprobs(3, near=reference_BT).requires_grad_(), reference_BT


def correction(sequences: bool = False) -> tuple[Tensor, ...]:
    """Of the trainer and of an engine that differs: a little, and far for one token."""
    train_BT = token_logprobs(4)
    rollout_BT = token_logprobs(5, near=train_BT)
    rollout_BT[0, 0] -= 30
    return (train_BT, rollout_BT, *_all_sampled(sequences))


def early_end() -> Tensor:
    """Of samples that ended before the last two tokens."""
    mask_BT = torch.ones(B, T, dtype=torch.bool)
    mask_BT[:, -2:] = False
    return mask_BT


def _all_sampled(sequences: bool) -> tuple[Tensor, ...]:
    return (torch.ones(B, T, dtype=torch.bool),) if sequences else ()


def anchor() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(6)
    connector = nn.Linear(D, 4).requires_grad_(False)
    nn.init.normal_(connector.weight, generator=generator)
    hidden_BSD = torch.randn(B, T + 1, D, generator=generator)
    reference_BSD = hidden_BSD + 0.1 * torch.randn(B, T + 1, D, generator=generator)
    return connector, hidden_BSD.requires_grad_(), reference_BSD


def terms(reference: tuple[str, ...]) -> tuple[Any, ...]:
    """What the network answered for some rows, and the rows; of the reference policy only what the term declares."""
    generator = torch.Generator().manual_seed(7)
    old_BT = token_logprobs(8)
    hidden_BSD = torch.randn(B, T + 1, D, generator=generator).requires_grad_()
    entropy_BT = torch.rand(B, T, generator=generator).requires_grad_()
    outputs = Forward(hidden_BSD, token_logprobs(9, near=old_BT).requires_grad_(), entropy_BT)
    rows = TokenBatch(
        prompt_ids=[(1, 2, 3)] * B,
        tokens_BT=torch.randint(0, 32, (B, T), generator=generator),
        temperature=1.0,
        rollout_logprobs_BT=token_logprobs(10, near=old_BT),
        old_logprobs_BT=old_BT,
        advantages_B=torch.tensor(ADVANTAGES),
        valid_B=torch.tensor([True] * (B - 1) + [False]),
        reference_logprobs_BT=token_logprobs(11, near=old_BT) if "logprobs" in reference else None,
        reference_hidden_BSD=hidden_BSD.detach() + 0.1 if "hidden" in reference else None,
        weights_BT=torch.full((B, T), 1 / (B * T)),
    )
    return outputs, rows


def combine() -> tuple[Any, ...]:
    """Two rewards, two prompts with three samples; the second reward is not for the first sample."""
    values_KB = np.array([[0.9, 0.2, 0.5, 0.1, 0.6, 0.4], [0.0, 0.7, 0.3, 0.8, 0.2, 0.5]])
    applies_KB = np.array([[True] * 6, [False] + [True] * 5])
    return values_KB, applies_KB, np.array([1.0, 0.5]), np.array([0, 0, 0, 1, 1, 1])
