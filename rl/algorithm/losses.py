"""Policy-gradient surrogates and their aggregations: two separate choices, pure functions.

A surrogate gives one loss per token; an aggregation gives one weight per token, and the loss of an update is
``sum(weights_BT * loss_BT)``. Weights are made from the mask of the whole global batch, so their denominator does
not depend on how the batch is later cut into micro-batches or spread over ranks: partial sums simply add up.

On the first update after a rollout the ratio rho = pi / pi_old is 1, and every surrogate's gradient is that of
REINFORCE; they differ in what they do with samples that later updates have left behind
(``train.updates_per_rollout``). One that compares whole samples declares ``sequences=True`` and is given ``mask_BT``
too: which tokens were sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl.config.declared import declares


@dataclass(frozen=True)
class SurrogateLoss:
    """Per-token loss and what it did. ``loss_BT`` carries the gradient; the other two are detached."""

    loss_BT: Tensor
    ratio_BT: Tensor  # pi(token) / pi_old(token)
    clipped_BT: Tensor  # bool: the clip was active, so this token gives no gradient (in cispo a smaller one)


@declares(not_negative=("clip_low", "clip_high"))
def grpo(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_B: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> SurrogateLoss:
    """-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A): PPO (arXiv 1707.06347) equation 7, in GRPO
    (arXiv 2402.03300) equation 3 with a group advantage; the KL term is a separate choice (``rl.algorithm.kl``).
    """
    return _clipped((logprobs_BT - old_logprobs_BT).exp(), advantages_B, clip_low, clip_high)


@declares(not_negative=("clip_low", "clip_high"))
def dapo(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_B: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> SurrogateLoss:
    """The clip with a higher ceiling ("clip-higher"), which keeps exploration alive: DAPO (arXiv 2503.14476),
    equation 10. The paper pairs it with the ``token_mean`` aggregation.
    """
    return grpo(logprobs_BT, old_logprobs_BT, advantages_B, clip_low=clip_low, clip_high=clip_high)


@declares(sequences=True, not_negative=("clip_low", "clip_high"))
def gspo(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> SurrogateLoss:
    """-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) with s = exp(mean over a sample's tokens of log pi - log
    pi_old), the same for all its tokens: GSPO (arXiv 2507.18071), equations 5 and 7, with the bounds of its section
    5.1. They are a thousandth of a token's because s is a geometric mean. The paper pairs it with ``sequence_mean``
    and splits a rollout into 4 updates; with one, s is always 1.
    """
    apart_BT = (logprobs_BT - old_logprobs_BT).masked_fill(~mask_BT, 0.0)
    ratio_B1 = (apart_BT.sum(-1, keepdim=True) / mask_BT.sum(-1, keepdim=True).clamp(min=1)).exp()
    found = _clipped(ratio_B1, advantages_B, clip_low, clip_high)
    shape = logprobs_BT.shape
    return SurrogateLoss(found.loss_BT.expand(shape), found.ratio_BT.expand(shape), found.clipped_BT.expand(shape))


@declares(not_negative=("clip_low", "clip_high"))
def cispo(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_B: Tensor,
    *,
    clip_low: float = 1.0,
    clip_high: float = 4.0,
) -> SurrogateLoss:
    """-sg(clip(rho, 1 - clip_low, 1 + clip_high)) A log pi, sg: without gradient: CISPO (MiniMax-M1, arXiv
    2506.13585), equations 4 and 5. The weight is cut, and no token loses its gradient. The paper has no lower bound,
    which is ``clip_low`` 1, and does not tell its upper one; a cap of 5 is what TRL advises after ScaleRL (arXiv
    2510.13786). The paper pairs it with ``token_mean`` and no KL.
    """
    ratio_BT = (logprobs_BT.detach() - old_logprobs_BT).exp()
    weight_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    return SurrogateLoss(-weight_BT * advantages_B.unsqueeze(-1) * logprobs_BT, ratio_BT, weight_BT != ratio_BT)


@declares(positive=("tau_positive", "tau_negative"))
def sapo(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_B: Tensor,
    *,
    tau_positive: float = 1.0,
    tau_negative: float = 1.05,
) -> SurrogateLoss:
    """-(4 / tau) sigmoid(tau (rho - 1)) A: the soft gate of SAPO (arXiv 2511.20347), equations 5 and 6. ``tau`` is
    ``tau_positive`` for A > 0 and ``tau_negative`` otherwise, the paper's values. Its slope is 1 at ratio 1 and fades
    with the distance, so nothing counts as clipped. The paper pairs it with ``sequence_mean``.
    """
    advantages_B1 = advantages_B.unsqueeze(-1)
    ratio_BT = (logprobs_BT - old_logprobs_BT).exp()
    tau_B1 = torch.where(advantages_B1 > 0, tau_positive, tau_negative)
    gate_BT = 4 / tau_B1 * torch.sigmoid(tau_B1 * (ratio_BT - 1))
    nowhere_BT = torch.zeros_like(ratio_BT, dtype=torch.bool)
    return SurrogateLoss(-gate_BT * advantages_B1, ratio_BT.detach(), nowhere_BT)


@declares(on_policy=True)
def reinforce(logprobs_BT: Tensor, old_logprobs_BT: Tensor, advantages_B: Tensor) -> SurrogateLoss:
    """-A log pi: REINFORCE (Williams 1992, Machine Learning 8, theorem 1). No ratio in the loss, so strictly
    on-policy; the ratio is still reported. At ratio 1 its gradient equals that of ``grpo``.
    """
    loss_BT = -advantages_B.unsqueeze(-1) * logprobs_BT
    ratio_BT = (logprobs_BT.detach() - old_logprobs_BT).exp()
    return SurrogateLoss(loss_BT, ratio_BT, torch.zeros_like(ratio_BT, dtype=torch.bool))


def _clipped(ratio_BT: Tensor, advantages_B: Tensor, clip_low: float, clip_high: float) -> SurrogateLoss:
    """``ratio_BT``: of tokens, or (B, 1) of samples; the answer has its shape."""
    advantages_B1 = advantages_B.unsqueeze(-1)
    clamped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    loss_BT = -torch.minimum(ratio_BT * advantages_B1, clamped_BT * advantages_B1)
    too_high_BT = (ratio_BT > 1 + clip_high) & (advantages_B1 > 0)
    too_low_BT = (ratio_BT < 1 - clip_low) & (advantages_B1 < 0)
    return SurrogateLoss(loss_BT, ratio_BT.detach(), too_high_BT | too_low_BT)


def token_mean(mask_BT: Tensor) -> Tensor:
    """1 / (number of unmasked tokens): DAPO (arXiv 2503.14476), equation 8 (TRL's "bnpo" and "dapo")."""
    mask_BT = mask_BT.double()
    return (mask_BT / mask_BT.sum().clamp(min=1)).float()


def sequence_mean(mask_BT: Tensor) -> Tensor:
    """Mean over each sequence's tokens, then over the sequences that have any: GRPO (arXiv 2402.03300), equation 3.

    The same as ``token_mean`` while all pictures have all their tokens; differs when single tokens are masked.
    """
    mask_BT = mask_BT.double()
    length_B1 = mask_BT.sum(-1, keepdim=True)
    return (mask_BT / length_B1.clamp(min=1) / (length_B1 > 0).sum().clamp(min=1)).float()


def constant(mask_BT: Tensor) -> Tensor:
    """1 / (B T) whatever is masked: the constant denominator of Dr. GRPO (arXiv 2503.20783), section 3.2 and
    listing 1, with the fixed number of tokens of a picture as its length. A batch with failed rewards then takes a
    smaller step instead of weighing the remaining samples more.
    """
    return mask_BT.float() / mask_BT.numel()
