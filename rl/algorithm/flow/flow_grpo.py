"""Policy gradients on a window of stochastic sampler steps, where a step's log-prob is that of a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from policy.flow.steps import FlowStep
from rl.algorithm.terms import Shown, Term
from rl.config.declared import declares

StepWeights = Literal["equal", "tempflow", "guard"]


@declares(
    window=True,
    positive=("clip", "advantage_cap"),
    not_negative=("kl_mask",),
    exclusive=("ratio_norm", "kl_mask"),
    for_sde={"weights": "guard"},
)
def flow_grpo(
    steps: Sequence[FlowStep],
    index: int,
    state_next: Tensor,
    mean: Tensor,
    old_mean: Tensor,
    advantages_B: Tensor,
    *,
    clip: float = 0.0256,
    ratio_norm: bool = False,
    kl_mask: float | None = None,
    weights: StepWeights = "equal",
    advantage_cap: float = 5.0,
) -> Term:
    """Flow-GRPO (arXiv 2505.05470): PPO's clipped ratio, per step of a sampler that draws its next state.

    A step of the sampler is p(x' | x) = N(mu, std^2), mu affine in the predicted flow (``policy.flow.steps``), so
    with ``old_mean`` of the policy that painted and the ``state_next`` it drew, all densities as means over the D
    numbers of a latent:

        log r = log p(x' | mu) - log p(x' | mu_old)
        L     = weight max(-A r, -A clip(r, 1 - clip / sqrt(D), 1 + clip / sqrt(D)))

    On the first update mu is mu_old and r is exactly 1. Only the window's steps are trained (MixGRPO, arXiv 2507.21802:
    two to four early ones do as well as all), the advantage is the picture's, the same for each of its steps.

    ``clip`` does not depend on the size of a latent. log r = mean(dmu z) / std - KL for x' = mu_old + std z, so its
    spread is sqrt(2 KL / D): the same change of the velocity moves r by 1 / sqrt(D) of itself. The published clip of
    1e-4 belongs to D = 65,536 (SD3.5 at 512 px) and is .0256 here; the 1e-5 of Flow-GRPO-Fast is .00256.

    ``ratio_norm``: GRPO-Guard's ratio (arXiv 2510.22319), log r_hat = std (log r + KL) = mean(dmu z): of mean 0, where
    log r has the mean -KL and good pictures hardly ever meet the upper clip, and of one scale at every step. The paper
    pairs it with ``weights: guard``; its clip of 2e-6 at D = 65,536 is 5e-4 here.

    ``kl_mask``: Flow-DPPO (arXiv 2606.11025) in place of the clip. A step is left out once its KL per number,
    mean(dmu^2) / (2 std^2), is at least ``kl_mask`` (paper: 1e-5) and the ratio has already moved the way that its
    advantage asks; else the loss is -A r. It means the same at any D by itself.

    ``weights``: how the step is weighted against the others of the window, see :func:`step_weights`. Advantages are cut
    at +-``advantage_cap``. A reference is held by ``velocity_mse`` of ``rl.algorithm.flow.nft``.

    Shapes: states and means (B, C, h, w); the loss and all that is shown (B,). ``steps``: of the whole window;
    ``index``: which of them led from ``mean``'s state to ``state_next``.
    """
    step = steps[index]
    advantages_B = advantages_B.clamp(-advantage_cap, advantage_cap)
    log_ratio_B, kl_B = step.log_ratio(state_next, mean, old_mean), step.kl(mean, old_mean.detach())
    ratio_B = (step.std * (log_ratio_B + kl_B) if ratio_norm else log_ratio_B).exp()
    if kl_mask is None:
        reach = clip / math.sqrt(mean[0].numel())
        up_B = (advantages_B > 0) & (ratio_B > 1 + reach)
        down_B = (advantages_B < 0) & (ratio_B < 1 - reach)
        loss_B = -torch.minimum(advantages_B * ratio_B, advantages_B * ratio_B.clamp(1 - reach, 1 + reach))
    else:
        far_B = kl_B >= kl_mask
        up_B, down_B = far_B & (advantages_B > 0) & (ratio_B > 1), far_B & (advantages_B < 0) & (ratio_B < 1)
        loss_B = (-advantages_B * ratio_B).masked_fill(up_B | down_B, 0.0)
    loss_B = step_weights(steps, how=weights)[index] * loss_B
    shown = {
        "policy_loss": Shown(loss_B.detach(), "sum"),
        "ratio_mean": Shown(ratio_B.detach()),
        "ratio_deviation": Shown((ratio_B.detach() - 1).abs(), "max"),
        "clipped_up": Shown(up_B),
        "clipped_down": Shown(down_B),
        "kl_old": Shown(kl_B.detach()),
    }
    return Term(loss_B, shown)


def step_weights(steps: Sequence[FlowStep], *, how: StepWeights) -> tuple[float, ...]:
    """Of each trained step in the loss.

    ``equal``: 1. ``tempflow``: std_k over its mean, because a gradient grows with 1 / std and the late steps, which
    decide little, would drown the early ones: TempFlow-GRPO (arXiv 2508.04324). ``guard``: 1 / |dt|, which equalises
    what is left once the ratio is normalised, for Flow-SDE: GRPO-Guard (arXiv 2510.22319).
    """
    if how == "tempflow":
        average = sum(step.std for step in steps) / len(steps)
        return tuple(step.std / average for step in steps)
    if how == "guard":
        return tuple(1 / (step.sigma - step.sigma_next) for step in steps)
    return (1.0,) * len(steps)
