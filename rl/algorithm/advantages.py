"""Advantages: how much better a sample is than the rest of its group. Pure functions, one per paper.

Every function takes ``rewards_PG`` (float) and ``valid_PG`` (bool) for P prompts with G samples each and returns
``advantages_PG``. Invalid samples (a failed or missing reward) get 0 and take no part in any statistic of their
group; a group with fewer than two valid samples holds no comparison and gets zeros. What the rules of a run have to
know of a function is declared above it and read from here without importing it (``rl.config.declared``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rl.config.declared import declares
from rl.types import UserError


@declares(least_group=2, not_negative=("eps",))
def grpo(rewards_PG: Tensor, valid_PG: Tensor, *, eps: float = 1e-4) -> Tensor:
    """A_i = (r_i - mean(r)) / (std(r) + eps): DeepSeekMath (arXiv 2402.03300), section 4.1.2.

    The paper leaves the kind of std open; this is the sample std (Bessel's correction, n - 1), which TRL and
    BLIP3o-NEXT (arXiv 2510.15857) use, with their eps.
    """
    centred_PG = _centred(rewards_PG, valid_PG)
    degrees_P1 = (_count(valid_PG) - 1).clamp(min=1)
    std_P1 = (centred_PG.square().sum(-1, keepdim=True) / degrees_P1).sqrt()
    return centred_PG / (std_P1 + eps)


@declares(least_group=2)
def dr_grpo(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """A_i = r_i - mean(r), not divided by the std: Dr. GRPO (arXiv 2503.20783), section 3.2.

    Leaves easy and hard prompts at their own scale; the paper pairs it with the ``constant`` aggregation.
    """
    return _centred(rewards_PG, valid_PG)


@declares(least_group=2)
def rloo(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """A_i = r_i - mean of the other samples' rewards: REINFORCE leave-one-out (arXiv 2402.14740), equation 8.

    Equals n / (n - 1) times ``dr_grpo`` for n valid samples.
    """
    count_P1 = _count(valid_PG)
    return _centred(rewards_PG, valid_PG) * count_P1 / (count_P1 - 1).clamp(min=1)


@declares(least_group=2, from_zero=True)
def max_rl(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """A_i = (r_i - mean(r)) / mean(r), 0 in a group without a success: MaxRL (arXiv 2602.02710), whose theorem 2 makes
    the mean score function of the successes alone an unbiased gradient of the likelihood of success, cut off at order
    n; the mean subtracted is its control variate. A prompt solved by few samples weighs most, up to n - 1.

    The theorem is of rewards 0 and 1; graded ones from 0 are weighted alike. Raises: UserError on a reward below 0.
    """
    if (rewards_PG[valid_PG] < 0).any():
        worst = rewards_PG[valid_PG].min().item()
        raise UserError(
            f"advantage: max_rl divides by a group's mean reward, so rewards must be 0 or more, and one is {worst:g}; "
            "give the reward a scale: [low, high], or write advantage: rloo."
        )
    mean_P1 = _mean(rewards_PG, valid_PG)
    return _centred(rewards_PG, valid_PG) / torch.where(mean_P1 > 0, mean_P1, 1.0)


@declares(across_prompts=True, not_negative=("eps",))
def batch_norm(rewards_PG: Tensor, valid_PG: Tensor, *, eps: float = 1e-4) -> Tensor:
    """A_i = (r_i - mean) / (std + eps) over the whole batch: the second half of GDPO (arXiv 2601.05242).

    Meant for ``combine: gdpo``, whose totals are centred inside their groups already; on raw rewards it would reward
    easy prompts rather than good samples.
    """
    kept_N = rewards_PG[valid_PG]
    if kept_N.numel() < 2:
        return rewards_PG.new_zeros(rewards_PG.shape)
    normed_PG = (rewards_PG - kept_N.mean()) / (kept_N.std() + eps)
    return normed_PG.masked_fill(~valid_PG, 0.0)


def zero_std_fraction(rewards_PG: Tensor, valid_PG: Tensor) -> float:
    """Fraction of the P groups that teach nothing."""
    return (~with_signal(rewards_PG, valid_PG)).double().mean().item()


def with_signal(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """(P,) bool: groups whose valid rewards are not all equal, 0 < |{r_i = r}| < G of DAPO's dynamic sampling (arXiv
    2503.14476, equation 11); one with fewer than two valid samples is none."""
    spread_P = _centred(rewards_PG, valid_PG).abs().amax(-1)
    scale_P = rewards_PG.masked_fill(~valid_PG, 0.0).abs().amax(-1).clamp(min=1.0)
    return spread_P > 1e-6 * scale_P


def _count(valid_PG: Tensor) -> Tensor:
    return valid_PG.sum(-1, keepdim=True)


def _centred(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """Rewards minus the mean of the group's valid ones; 0 at invalid samples and in groups with fewer than two."""
    apart_PG = _kept(rewards_PG, valid_PG) - _mean(rewards_PG, valid_PG)
    return apart_PG.masked_fill(~valid_PG | (_count(valid_PG) < 2), 0.0)


def _mean(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    return _kept(rewards_PG, valid_PG).sum(-1, keepdim=True) / _count(valid_PG).clamp(min=1)


def _kept(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """Masked before any arithmetic: an invalid reward may be NaN, and NaN * 0 is NaN."""
    return rewards_PG.masked_fill(~valid_PG, 0.0)
