"""What has come of the steps that are under way. The first result of a group wins, as in the scheduler's ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rewards.pool.submission import Submission
from rl.cluster.groups import joined, split
from rl.scheduler.work import GroupKey
from rl.types import Renders, Rollout

Submit = Callable[[GroupKey, Rollout, NDArray[np.uint8]], Submission]
"""Gives the pictures of a group to the rewards."""


@dataclass
class _Step:
    rollouts: dict[GroupKey, Rollout] = field(default_factory=dict)
    pictures: dict[GroupKey, NDArray[np.uint8]] = field(default_factory=dict)
    seeds: dict[GroupKey, tuple[int, ...]] = field(default_factory=dict)
    waiting: dict[GroupKey, Submission] = field(default_factory=dict)
    mismatch: float | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of workers, by role."""


class StepBoard:
    """Group by group, what samplers and painters have made."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._steps: dict[int, _Step] = defaultdict(_Step)

    def sampled(self, keys: Sequence[GroupKey], rollout: Rollout, mismatch: float | None, seconds: float) -> None:
        step = self._steps[keys[0].step]
        step.seconds["sample"] += seconds
        step.mismatch = mismatch
        for key, group in zip(keys, split(rollout), strict=True):
            step.rollouts.setdefault(key, group)

    def rollout(self, keys: Sequence[GroupKey]) -> Rollout:
        """That of some groups that are sampled."""
        step = self._steps[keys[0].step]
        return joined([step.rollouts[key] for key in keys])

    def painted(
        self, keys: Sequence[GroupKey], pictures: NDArray[np.uint8], seeds: Sequence[int], seconds: float
    ) -> None:
        """What is new among them goes to the rewards at once."""
        step = self._steps[keys[0].step]
        step.seconds["paint"] += seconds
        each = len(pictures) // len(keys)
        for place, key in enumerate(keys):
            if key not in step.pictures:
                rows = slice(place * each, (place + 1) * each)
                step.pictures[key], step.seeds[key] = pictures[rows], tuple(seeds[rows])
                step.waiting[key] = self._submit(key, step.rollouts[key], step.pictures[key])

    def take(self, keys: Sequence[GroupKey]) -> FinishedStep:
        """The step whose groups have all come through, but for those that failed; it is over."""
        step, keys = self._steps.pop(keys[0].step), sorted(keys)
        pictures = np.concatenate([step.pictures[key] for key in keys])
        rollout = joined([step.rollouts[key] for key in keys])
        seeds = tuple(seed for key in keys for seed in step.seeds[key])
        renders = Renders(pictures, seeds, len(pictures) // rollout.batch_size)
        return FinishedStep(rollout, renders, [step.waiting[key] for key in keys], step.mismatch, dict(step.seconds))

    def close(self) -> None:
        """Nobody waits for the scores any more."""
        for step in self._steps.values():
            for waiting in step.waiting.values():
                waiting.cancel()
        self._steps.clear()


@dataclass(frozen=True)
class FinishedStep:
    """Painted, and its scores on their way."""

    rollout: Rollout
    renders: Renders
    waiting: Sequence[Submission]
    mismatch: float | None
    """Of the weights that it was sampled with."""
    seconds: dict[str, float]
    """That workers were busy with it, by role."""
