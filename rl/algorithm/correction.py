"""Correction for sampling and training with slightly different policies: the engine's numerics, or stale weights.

Pure functions; results are detached, so they weigh the gradient and never receive one. Each takes the ratio w =
pi_train / pi_rollout, of a token or of a whole sample, and either truncates it at a cap (TIS, truncated importance
sampling) or leaves out what lies beyond bounds (MIS, masked importance sampling). Per token is biased and has little
variance; per sample is unbiased, but over hundreds of image tokens a sample's ratio nearly always meets its bound:
look at ``correction_clipped``. One that compares whole samples declares ``sequences=True`` and is given ``mask_BT``
too: which tokens were sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.algorithm.kl import k3_values
from rl.algorithm.terms import Shown
from rl.config.declared import declares


@dataclass(frozen=True)
class Correction:
    """``weights_BT`` multiplies the policy loss of each token; ``clipped_BT`` (bool) says where a bound was active."""

    weights_BT: Tensor
    clipped_BT: Tensor


@declares(positive=("cap",))
def token_tis(train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, *, cap: float = 2.0) -> Correction:
    """w = min(pi_train / pi_rollout, cap) per token: truncated importance sampling (Ionides 2008, J. Comput. Graph.
    Stat. 17, equation 3), between engines as in Yao et al., "Your efficient RL framework secretly brings you
    off-policy RL training" (2025).
    """
    ratio_BT = (train_logprobs_BT - rollout_logprobs_BT).detach().exp()
    return Correction(ratio_BT.clamp(max=cap), ratio_BT > cap)


@declares(sequences=True, positive=("cap",))
def sequence_tis(
    train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor, *, cap: float = 2.0
) -> Correction:
    """w = min(product over a sample's tokens of pi_train / pi_rollout, cap), the same for all its tokens: Seq-TIS of
    Liu et al., "When speed kills stability: demystifying RL collapse from the training-inference mismatch" (2025),
    section 4.2.
    """
    ratio_BT = _of_samples(train_logprobs_BT, rollout_logprobs_BT, mask_BT)
    return Correction(ratio_BT.clamp(max=cap), ratio_BT > cap)


@declares(not_negative=("low",), positive=("high",), rising=("low", "high"))
def token_mis(
    train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, *, low: float = 0.5, high: float = 5.0
) -> Correction:
    """w = pi_train / pi_rollout where it lies in [low, high], else 0, per token: the M(k) of IcePop (Ring-1T, arXiv
    2510.18855, its objective's equation), with its bounds.
    """
    ratio_BT = (train_logprobs_BT - rollout_logprobs_BT).detach().exp()
    return _within(ratio_BT, low, high)


@declares(sequences=True, positive=("cap",))
def sequence_mis(
    train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor, *, cap: float = 2.0
) -> Correction:
    """w = product over a sample's tokens of pi_train / pi_rollout where that is at most ``cap``, else 0, the same for
    all its tokens: Seq-MIS of Liu et al. (2025, as in ``sequence_tis``), section 4.2.
    """
    return _within(_of_samples(train_logprobs_BT, rollout_logprobs_BT, mask_BT), 0.0, cap)


def _within(ratio_BT: Tensor, low: float, high: float) -> Correction:
    outside_BT = (ratio_BT < low) | (ratio_BT > high)
    return Correction(ratio_BT.masked_fill(outside_BT, 0.0), outside_BT)


def _of_samples(train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The ratio of each whole sample, once for each of its tokens."""
    apart_BT = (train_logprobs_BT - rollout_logprobs_BT).detach().masked_fill(~mask_BT, 0.0)
    return apart_BT.sum(-1, keepdim=True).exp().expand_as(apart_BT)


def mismatch(train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor) -> dict[str, Shown]:
    """How far trainer and sampling engine disagree about the sampled tokens.

    ``mismatch``: mean |log-prob difference|; ``mismatch_max``: the largest; ``mismatch_k3``: KL(rollout || train) by
    k3, all in nats per token. With on-policy data they are float noise; anything else is a stale or wrongly loaded
    engine.
    """
    train_BT = train_logprobs_BT.detach()
    apart_BT = (train_BT - rollout_logprobs_BT).abs()
    k3_BT = k3_values(rollout_logprobs_BT, train_BT)
    return {"mismatch": Shown(apart_BT), "mismatch_max": Shown(apart_BT, "max"), "mismatch_k3": Shown(k3_BT)}
