"""Correction for sampling and training with slightly different policies: the engine's numerics, or stale weights.

Pure functions; results are detached, so they weigh the gradient and never receive one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl.algorithm.kl import k3_values
from rl.algorithm.terms import Shown
from rl.config.declared import declares


@dataclass(frozen=True)
class Correction:
    """``weights_BT`` multiplies the policy loss of each token; ``clipped_BT`` (bool) says where the cap was active."""

    weights_BT: Tensor
    clipped_BT: Tensor


@declares(positive=("cap",))
def token_tis(train_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, *, cap: float = 2.0) -> Correction:
    """w = min(pi_train / pi_rollout, cap) per token: truncated importance sampling (Ionides 2008, J. Comput. Graph.
    Stat. 17, equation 3), between engines as in Yao et al., "Your efficient RL framework secretly brings you
    off-policy RL training" (2025).

    Per token and not per sequence: over hundreds of image tokens a sequence's ratio nearly always meets its cap.
    """
    ratio_BT = (train_logprobs_BT - rollout_logprobs_BT).detach().exp()
    return Correction(ratio_BT.clamp(max=cap), ratio_BT > cap)


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
