"""Learning on the forward process: finished pictures, noised anew. No trajectory, no log-probs, any sampler.

Rows are (picture, t) pairs. Of a picture with clean latents x0, painted from its hidden states, the network sees
x_t = (1 - t) x0 + t eps with fresh noise eps, and the flow that leads back is v* = eps - x0 (:func:`noised`). ``flow``,
``old_flow`` and ``reference_flow`` are what the network now, the one that painted, and the frozen one predict at
(x_t, t). All losses are (N,), one per row, before the mean over the rows; all means below are over the D numbers of a
latent, so that no option depends on their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from policy.flow.steps import row_means
from rl.algorithm.terms import Shown, Term
from rl.config.declared import declares

Weighting = Literal["uniform", "t", "t2", "huber", "ghuber"]
_FLOOR = 1e-5  # of the adaptive weight: a latent that is matched exactly gets no infinite gradient


def noised(latents: Tensor, noise: Tensor, t_N: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, v*) of clean latents, float32; ``t_N`` must be what the network is told, or the two are apart."""
    t = _column(t_N, latents)
    clean, noise = latents.float(), noise.float()
    return (1 - t) * clean + t * noise, noise - clean


@declares(positive=("beta", "advantage_cap"))
def nft(
    flow: Tensor,
    old_flow: Tensor,
    target_flow: Tensor,
    t_N: Tensor,
    advantages_N: Tensor,
    *,
    beta: float = 1.0,
    adaptive: bool = True,
    advantage_cap: float = 5.0,
) -> Term:
    """DiffusionNFT: Diffusion Negative-aware FineTuning (arXiv 2509.16117), its training objective.

    With c = ``advantage_cap`` and r = clip(A, -c, c) / (2 c) + 1/2 the probability that a picture is a good one:

        v+ = v_old + beta (v - v_old)         the policy that good pictures are matched with
        v- = v_old - beta (v - v_old)         its mirror image at v_old, for bad ones
        L  = c (r |t (v+ - v*)|^2 / w+  +  (1 - r) |t (v- - v*)|^2 / w-) / beta

    t (v - v*) is the error of the clean latents that v stands for. w+- = mean |t (v+- - v*)|, held fixed (the paper's
    self-normalised regression); ``adaptive=False`` is w = 1.

    What it does, for w = 1: L = c |e|^2 / beta - 2 A t e.d + c beta t^2 |d|^2 with e = t (v* - v_old), d = v - v_old.
    So it is flow matching weighted by the advantage plus a pull towards v_old, its minimum is
    v_old + (A / c) / beta (v* - v_old), and a smaller ``beta`` makes a longer step (paper: 1; .1 for OCR and several
    rewards). At v = v_old the loss does not depend on the advantage, and its gradient is A times that of
    |t (v - v*)|^2 / w: the value is no measure of progress, ``old_deviation`` is.

    The paper paints with an ODE of 10 steps without guidance, trains 9 of its timesteps, keeps v_old as a slow copy
    (``rl.algorithm.copies``; v_old = v throughout collapsed there), and adds :func:`velocity_mse` with 1e-4.
    It improves the flow, not a sampler of few steps: paint training pictures with 8 steps or more.

    Shapes: flows (N, C, h, w), ``t_N`` in (0, 1], ``advantages_N``; ``old_flow`` and ``target_flow`` get no gradient.
    """
    old_flow, t = old_flow.detach().float(), _column(t_N, flow)
    moved = flow.float() - old_flow
    target = target_flow.detach().float()
    good_N = (advantages_N.clamp(-advantage_cap, advantage_cap) / (2 * advantage_cap) + 0.5).clamp(0, 1)
    towards_N = _normalised(t * (old_flow + beta * moved - target), adaptive)
    away_N = _normalised(t * (old_flow - beta * moved - target), adaptive)
    loss_N = advantage_cap * (good_N * towards_N + (1 - good_N) * away_N) / beta
    return Term(
        loss_N,
        {"policy_loss": Shown(loss_N.detach(), "sum"), "old_deviation": Shown(row_means(moved.detach().square()))},
    )


@declares(positive=("clip", "advantage_cap"))
def awm(
    flow: Tensor,
    old_flow: Tensor,
    target_flow: Tensor,
    t_N: Tensor,
    advantages_N: Tensor,
    *,
    weighting: Weighting = "t2",
    clip: float = 1.0,
    advantage_cap: float = 5.0,
) -> Term:
    """Advantage Weighted Matching (arXiv 2509.25050): a policy gradient with the flow-matching loss for a log-prob.

        "log p" = -f(mean((v - v*)^2), t)     ratio = exp("log p"(v) - "log p"(v_old))
        L = max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip))

    f(m, t): ``uniform`` m, ``t`` t m, ``t2`` t^2 m, ``huber`` t (sqrt(m + 1e-10) - 1e-5), ``ghuber``
    t ((m + 1e-10)^(1/4) - (1e-10)^(1/4)) 4. ``clip`` 1 is off on the lower side and what the authors use.

    The limit of :func:`nft`: at v = v_old its gradient with ``t2`` is that of ``nft(adaptive=False)``, whatever beta is
    and as long as no advantage is capped. What NFT adds is the pull to v_old. In its place the paper has
    :func:`velocity_mse` with weight 1 to a slow copy of decay .3, which no configuration gives, and with 1e-3 to the
    reference (``decoder.reference``). On-policy with one update per rollout v_old is v, detached: no second forward.
    """
    target = target_flow.detach().float()
    error_N = row_means((flow.float() - target).square())
    old_error_N = row_means((old_flow.detach().float() - target).square())
    weigh = _WEIGHTINGS[weighting]
    ratio_N = (weigh(old_error_N, t_N.float()) - weigh(error_N, t_N.float())).exp()
    capped_N = advantages_N.clamp(-advantage_cap, advantage_cap)
    loss_N = -torch.minimum(capped_N * ratio_N, capped_N * ratio_N.clamp(1 - clip, 1 + clip))
    shown = {
        "policy_loss": Shown(loss_N.detach(), "sum"),
        "ratio_mean": Shown(ratio_N.detach()),
        "ratio_deviation": Shown((ratio_N.detach() - 1).abs(), "max"),
        "old_deviation": Shown(row_means((flow.detach().float() - old_flow.detach().float()).square())),
    }
    return Term(loss_N, shown)


def velocity_mse(flow: Tensor, reference_flow: Tensor, *, beta: float = 1e-4) -> Term:
    """beta mean((v - v_ref)^2): what holds a decoder near its reference, in DiffusionNFT (1e-4), AWM (1e-3) and, in
    place of a KL of latents, UniGRPO (arXiv 2603.23500). Unlike the KL of a step, which divides by std^2, it does not
    leave the noisy steps free, where grid patterns begin.
    """
    distance_N = row_means((flow.float() - reference_flow.detach().float()).square())
    return Term(beta * distance_N, {"velocity_mse": Shown(distance_N.detach())})


_WEIGHTINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "uniform": lambda error_N, t_N: error_N,
    "t": lambda error_N, t_N: t_N * error_N,
    "t2": lambda error_N, t_N: t_N.square() * error_N,
    "huber": lambda error_N, t_N: t_N * ((error_N + 1e-10).sqrt() - 1e-5),
    "ghuber": lambda error_N, t_N: t_N * ((error_N + 1e-10) ** 0.25 - 1e-10**0.25) * 4,
}


def _normalised(error: Tensor, adaptive: bool) -> Tensor:
    """(N,) mean square error, over the mean absolute error if ``adaptive``."""
    square_N = row_means(error.square())
    return square_N / row_means(error.detach().abs()).clamp(min=_FLOOR) if adaptive else square_N


def _column(t_N: Tensor, like: Tensor) -> Tensor:
    return t_N.float().reshape(-1, *[1] * (like.ndim - 1))
