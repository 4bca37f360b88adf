"""Several rewards -> one training reward per sample, and the budget of failures a run may spend.

``combine`` decides which samples have a training reward at all; *how* it is made of the K applicable train rewards
is one of the functions below, chosen in the YAML (``combine: {use: gdpo}``). Each takes ``values_KB`` (scaled,
meaningful only where ``applies_KB``), ``weights_K`` and ``group_B`` (the group's number) and returns ``total_B``.
A sample with a failed train reward has no training reward: half of a reward is another reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rewards.base import LARGEST
from rl.config.declared import declares
from rl.config.schema import Role
from rl.types import Score, Scores, UserError

Floats = NDArray[np.float64]
Combination = Callable[[Floats, NDArray[np.bool_], Floats, NDArray[np.int64]], Floats]


class TooManyFailures(UserError):
    """More scores failed in one step than the configuration allows."""


@declares(centred=False)
def mean(values_KB: Floats, applies_KB: NDArray[np.bool_], weights_K: Floats, group_B: NDArray[np.int64]) -> Floats:
    """sum_k w_k r_k / sum_k abs(w_k) over the rewards that apply to the sample: weights are renormalised."""
    applied_B = np.abs(weights_K) @ applies_KB  # 0 where no reward applies, which the caller masks
    return weights_K @ np.where(applies_KB, values_KB, 0.0) / np.where(applied_B == 0, 1.0, applied_B)


@declares(centred=False)
def sum_(values_KB: Floats, applies_KB: NDArray[np.bool_], weights_K: Floats, group_B: NDArray[np.int64]) -> Floats:
    """``mean`` times sum_k abs(w_k) over *all* train rewards: the plain weighted sum where all of them apply, and on
    the same scale where only some do."""
    return np.abs(weights_K).sum() * mean(values_KB, applies_KB, weights_K, group_B)


@declares(centred=False)
def product(values_KB: Floats, applies_KB: NDArray[np.bool_], weights_K: Floats, group_B: NDArray[np.int64]) -> Floats:
    """prod_k r_k^w_k: one bad reward spoils the sample, so none can be bought with another. A reward of 0 or 1 is a
    gate. Raises: UserError for a value below 0 or a weight not above 0."""
    if (weights_K <= 0).any() or (values_KB[applies_KB] < 0).any():
        raise UserError(
            "combine.use: 'product' needs weights above 0 and values not below 0; "
            "give the reward a `scale` that maps it to [0, 1], or use 'mean'"
        )
    return (np.where(applies_KB, values_KB, 1.0) ** weights_K[:, None]).prod(0)


@declares(centred=True)
def gdpo(
    values_KB: Floats,
    applies_KB: NDArray[np.bool_],
    weights_K: Floats,
    group_B: NDArray[np.int64],
    *,
    eps: float = 1e-4,
) -> Floats:
    """sum_k w_k (r_k - mean_g r_k) / (std_g r_k + eps), normalised inside each group before the sum, so that an easy
    reward doesn't drown a hard one: GDPO (arXiv 2601.05242), whose second half is ``advantage: batch_norm``."""
    total_B = np.zeros(values_KB.shape[1])
    for values_B, applies_B, weight in zip(values_KB, applies_KB, weights_K, strict=True):
        for group in np.unique(group_B[applies_B]):
            members = applies_B & (group_B == group)
            if members.sum() > 1:
                centred = values_B[members] - values_B[members].mean()
                total_B[members] += weight * centred / (values_B[members].std(ddof=1) + eps)
    return total_B


def combine(
    by_reward: Mapping[str, Sequence[Score]],
    weights: Mapping[str, float],
    roles: Mapping[str, Role],
    *,
    groups: Sequence[str],
    how: Combination = mean,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> Scores:
    """Combine B scores per reward into ``Scores``; ``valid_B`` is False where a train reward failed or none applies.

    ``groups``: the B samples' group ids. ``scales[name] = (low, high)`` maps that reward's values by
    (r - low) / (high - low) first. ``score_B`` is the weighted mean whatever ``how`` is, to be compared between runs.
    Raises ``UserError`` if no reward has role ``train``, a train weight is 0 or not finite, or ``how`` does not answer
    B numbers of a usable size.
    """
    train = check_weights({name: weights[name] for name in by_reward}, roles)
    weights_K = np.array(list(train.values()))
    failed_KB = np.array([[score.failed for score in by_reward[name]] for name in train])
    applies_KB = np.array([[score.value is not None for score in by_reward[name]] for name in train])
    valid_B = np.logical_and(applies_KB.any(0), ~failed_KB.any(0))
    applies_KB &= valid_B
    values_KB = np.array([_scaled(by_reward[name], (scales or {}).get(name)) for name in train])
    group_B = np.unique(list(groups), return_inverse=True)[1]

    def totals(function: Combination) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused below
            found_B = function(values_KB, applies_KB, weights_K, group_B)
        return _checked(found_B, valid_B, groups)

    return Scores(by_reward=by_reward, total_B=totals(how), valid_B=valid_B, score_B=totals(mean))


def _checked(found: object, valid_B: NDArray[np.bool_], groups: Sequence[str]) -> NDArray[np.float32]:
    """The totals, 0 where there is none. Raises ``UserError`` if they are not B numbers of a usable size."""
    found_B = np.asarray(found)
    if found_B.shape != valid_B.shape or found_B.dtype.kind not in "biuf":
        raise UserError(
            f"combine.use: it returned {found_B.dtype} of shape {found_B.shape}; it must return one number for each of "
            f"the {len(valid_B)} samples"
        )
    total_B = np.where(valid_B, found_B, 0.0)
    beyond = np.flatnonzero(~(np.abs(total_B) <= LARGEST))
    if len(beyond):
        raise UserError(
            f"combine: the training reward of the prompt {groups[beyond[0]]!r} is {total_B[beyond[0]]:g}, and it must "
            f"lie within {LARGEST:g}; look at the rewards' `weight` and `scale`"
        )
    return total_B.astype(np.float32)


def _scaled(scores: Sequence[Score], scale: tuple[float, float] | None) -> list[float]:
    low, high = scale or (0.0, 1.0)
    return [0.0 if score.value is None else (score.value - low) / (high - low) for score in scores]


def check_weights(weights: Mapping[str, float], roles: Mapping[str, Role]) -> dict[str, float]:
    """The weights of the train rewards; raises ``UserError`` for weights that cannot train."""
    train = {name: weight for name, weight in weights.items() if roles[name] == "train"}
    if not train:
        raise UserError("rewards: no reward has role `train`, so there is nothing to learn; set `role: train` on one")
    for name, weight in train.items():
        if not math.isfinite(weight) or weight == 0:
            raise UserError(
                f"rewards.{name}.weight is {weight:g}: give it a finite weight other than 0, or set `role: monitor`"
            )
    return train


def failure_counts(by_reward: Mapping[str, Sequence[Score]]) -> dict[str, int]:
    """How many of the B scores failed, per reward."""
    return {name: sum(score.failed for score in scores) for name, scores in by_reward.items()}


class FailureBudget:
    """Stops a run whose rewards fail too often: learning from the few samples left would look healthy and be wrong."""

    def __init__(self, max_failed_fraction: float) -> None:
        """``max_failed_fraction`` in [0, 1], per reward and step; a monitor's failures are only counted."""
        self.max_failed_fraction = max_failed_fraction

    def check(self, by_reward: Mapping[str, Sequence[Score]], roles: Mapping[str, Role]) -> None:
        """Raises ``TooManyFailures`` if a train reward failed on too many of the samples it applies to."""
        for name, scores in by_reward.items():
            if roles[name] == "train":
                self._check_one(name, scores)

    def _check_one(self, name: str, scores: Sequence[Score]) -> None:
        reasons = [score.failure for score in scores if score.failure is not None]
        applicable = sum(score.failed or score.value is not None for score in scores)
        if not reasons or len(reasons) <= self.max_failed_fraction * applicable:
            return
        first = "; ".join(list(dict.fromkeys(reasons))[:3])  # distinct, in order of appearance
        raise TooManyFailures(
            f"rewards.{name} failed on {len(reasons)} of {applicable} samples "
            f"(reward_pool.max_failed_fraction is {self.max_failed_fraction:g}): {first}; "
            f"repair the reward, or raise that fraction if these failures are harmless"
        )
