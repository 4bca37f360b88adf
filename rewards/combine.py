"""Several rewards -> one training reward per sample, and the budget of failures a run may spend.

With weights ``w_k`` over the rewards that apply to a sample (role ``train``, score not ``None``),
``mean``: ``sum_k w_k r_k / sum_k |w_k|``. ``sum``: the same times ``sum |w|`` over *all* train rewards, so a
prompt that only some rewards apply to lives on the same scale as one they all apply to. A sample with a failed
train reward has no training reward at all: half of a reward is another reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from rewards.base import Role
from rl.types import Score, Scores, UserError

Mode = Literal["mean", "sum"]


class TooManyFailures(UserError):
    """More scores failed in one step than the configuration allows."""


def combine(
    by_reward: Mapping[str, Sequence[Score]],
    weights: Mapping[str, float],
    roles: Mapping[str, Role],
    *,
    mode: Mode = "mean",
) -> Scores:
    """Combine B scores per reward into ``Scores``; ``valid_B`` is False where a train reward failed or none applies.

    Raises ``UserError`` if no reward has role ``train`` or a train weight is 0 or not finite.
    """
    train = check_weights({name: weights[name] for name in by_reward}, roles)
    batch = len(next(iter(by_reward.values())))
    scale = 1.0 if mode == "mean" else sum(abs(w) for w in train.values())
    total_B = np.zeros(batch, np.float32)
    valid_B = np.zeros(batch, np.bool_)
    for i in range(batch):
        total = _weighted_mean([(weight, by_reward[name][i]) for name, weight in train.items()])
        if total is not None:
            total_B[i], valid_B[i] = scale * total, True
    return Scores(by_reward=by_reward, total_B=total_B, valid_B=valid_B)


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


def _weighted_mean(parts: Sequence[tuple[float, Score]]) -> float | None:
    if any(score.failed for _, score in parts):
        return None
    applicable = [(weight, score.value) for weight, score in parts if score.value is not None]
    if not applicable:
        return None
    return sum(w * value for w, value in applicable) / sum(abs(w) for w, _ in applicable)


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
