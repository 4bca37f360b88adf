"""The closed form: T(eta) = max(T_bottleneck, L / (eta + 1)), and the split of n workers that makes it smallest.

L is the time of one step alone, from its first token to its published weights. With a staleness of eta, eta + 1 steps
are on their way at any time, so one is done every L / (eta + 1) seconds, unless one kind of worker is busy all along.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace

from rl.scheduler.pools import even_share
from rl.simulate.workload import Workload

_NO_SLOWER = 1.001


@dataclass(frozen=True)
class WorkerSplit:
    """Who does what: ``WorkerSplit(1, 6, 1, scorers=2)`` are 8 workers, and 2 for rewards beside them."""

    samplers: int
    painters: int
    trainers: int
    scorers: int

    @property
    def workers(self) -> int:
        return self.samplers + self.painters + self.trainers

    def __str__(self) -> str:
        return f"{self.samplers}:{self.painters}:{self.trainers}"


@dataclass(frozen=True)
class StepBounds:
    """Seconds that a step keeps each kind of worker busy, and what it takes alone."""

    busy: dict[str, float]
    alone: float

    @property
    def bottleneck(self) -> str:
        return max(self.busy, key=lambda role: self.busy[role])

    @property
    def busiest(self) -> float:
        return max(self.busy.values())

    def seconds(self, staleness: int) -> float:
        return max(self.busiest, self.alone / (staleness + 1))

    def bound(self, staleness: int) -> str:
        """What a step waits for: one kind of worker, or the ``staleness``, which lets too few steps on their way."""
        return self.bottleneck if self.busiest >= self.alone / (staleness + 1) else "staleness"

    @property
    def enough_staleness(self) -> int:
        """The smallest with which the bottleneck is busy all along."""
        return max(0, math.ceil(self.alone / self.busiest - 1e-9) - 1)


def bounds(work: Workload, split: WorkerSplit, cores: float | None = None) -> StepBounds:
    """``cores``: that all of them share, as if each call kept one busy."""
    share = even_share(work.groups, split.samplers, work.groups_a_call)
    waves = math.ceil(work.groups / (split.samplers * share))
    wave, load = work.sample(share), work.costs.load
    busy = {
        "samplers": waves * wave + load,
        "painters": work.groups * work.paint / split.painters + load,
        "rewards": work.groups * work.score / split.scorers,
        "trainers": work.update(split.trainers),
    }
    if cores is not None:
        counts = (split.samplers, split.painters, split.scorers, split.trainers)
        busy["cores"] = sum(map(operator.mul, busy.values(), counts)) / cores
    last = work.groups - (waves - 1) * share * split.samplers  # groups of the last wave
    painted = max(
        wave + math.ceil(work.groups / split.painters) * work.paint,
        waves * wave + math.ceil(last / split.painters) * work.paint,
    )
    scored = max(work.score, busy["rewards"] - math.ceil(work.groups / split.painters) * work.paint)
    return StepBounds(busy, 2 * load + painted + scored + busy["trainers"])


def best_split(work: Workload, workers: int, scorers: int, staleness: int) -> WorkerSplit:
    """The fastest split of at most so many workers, at least 3, by the closed form: those that make no step faster are
    left out, trainers first, for each rank more is one more that can die."""

    def seconds(split: WorkerSplit) -> float:
        return bounds(work, split).seconds(staleness)

    best = min(
        (
            WorkerSplit(samplers, workers - samplers - trainers, trainers, scorers)
            for samplers in _counts(workers - 2)
            for trainers in _counts(workers - samplers - 1)
        ),
        key=seconds,
    )
    enough = seconds(best) * _NO_SLOWER
    for role in ("trainers", "painters", "samplers"):
        fewer = (replace(best, **{role: count}) for count in range(1, getattr(best, role) + 1))
        best = next(split for split in fewer if seconds(split) <= enough)
    return best


def _counts(most: int) -> list[int]:
    """All up to 64, then in steps of a thirty-second: a split of hundreds needs no single worker."""
    counts, one = [], 1
    while one <= most:
        counts.append(one)
        one += max(1, one // 32)
    return counts
