"""Whether what is rewarded is also what a monitor likes: told inside groups, before the monitor has fallen.

An update along the advantages A turns a policy into one proportional to pi exp(eta A); the first change of any other
score m is then eta times the covariance of A and m inside a prompt (Price 1970, equation 5, for a selection among
samples). A covariance that is below 0 beyond chance says that the monitor is about to pay for the reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rl.run_folder.records import Alarm
from rl.types import Score

PREFIX, GROUPS = "agreement/", "agreement_groups/"
_CHANCE = 1.0  # standard errors: half of the smallest step's disagreement that is to be found quickly


def agreement(total_PG: NDArray[np.floating], monitor_PG: NDArray[np.floating]) -> tuple[float, int]:
    """Standard errors by which the correlation inside P groups differs from 0, and in how many groups both vary.

    Every such group counts once, however its rewards are scaled. If nothing binds the two, each way of pairing them is
    as likely as any other, and the correlation of n pairs has the variance 1 / (n - 1) (Pitman 1937, equation 3). NaN
    marks what is missing.
    """
    both_PG = np.isfinite(total_PG) & np.isfinite(monitor_PG)
    told = [_correlation(a[here], b[here]) for a, b, here in zip(total_PG, monitor_PG, both_PG, strict=True)]
    found = [one for one in told if one is not None]
    return (sum(found) / math.sqrt(len(found)), len(found)) if found else (math.nan, 0)


def values_of(scores: Sequence[Score]) -> NDArray[np.float64]:
    """NaN where there is none."""
    return np.array([math.nan if one.value is None else one.value for one in scores])


class Disagreement:
    """Sums up what lies below ``-_CHANCE`` in each step, never above 0: Page's cumulative sum (1954). A reward that is
    at odds with a monitor is told of as soon as that is beyond chance, whatever was before."""

    def __init__(self, monitors: Sequence[str], most: float | None) -> None:
        self._most = most
        self._sums = dict.fromkeys(monitors, 0.0)
        self._active: set[str] = set()

    def check(self, step: int, metrics: Mapping[str, float | None]) -> list[Alarm]:
        found = [self._check_one(name, step, metrics.get(PREFIX + name)) for name in self._sums]
        return [alarm for alarm in found if alarm is not None]

    def _check_one(self, name: str, step: int, value: float | None) -> Alarm | None:
        if value is None or not math.isfinite(value):
            return None
        self._sums[name] = total = min(0.0, self._sums[name] + value + _CHANCE)
        if self._most is None or total == 0:
            self._active.discard(name)
        if self._most is None or total >= -self._most or name in self._active:
            return None
        self._active.add(name)
        sentence = (
            f"inside groups, what is rewarded is what {name!r} likes least: by {-total:.1f} standard errors beyond "
            f"chance by step {step + 1} (guards.disagreement: {self._most:g}), so learning it costs that score; "
            "combine the two, or mend the reward"
        )
        return Alarm(PREFIX + name, step, 0.0, total, sentence)


def _correlation(a_G: NDArray[np.floating], b_G: NDArray[np.floating]) -> float | None:
    """In its own standard errors; None where one of them does not vary."""
    if len(a_G) < 2 or np.ptp(a_G) <= 1e-6 or np.ptp(b_G) <= 1e-6:
        return None
    return float(np.corrcoef(a_G, b_G)[0, 1]) * math.sqrt(len(a_G) - 1)
