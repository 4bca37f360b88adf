"""How far a score falls by chance alone: what is less is no alarm."""

from __future__ import annotations

import math
from collections.abc import Sequence

_ERRORS = 2.0  # standard errors: one fall in forty is larger


def fall_over_steps(before: Sequence[float], now: Sequence[float]) -> float:
    """Of the mean of ``now`` against that of ``before``, whose steps have prompts of their own (Welch 1947)."""
    return _ERRORS * math.sqrt(sum(_variance(values) / len(values) for values in (before, now)))


def fall_of_share(before: float, now: float, samples: int | None) -> float:
    """Of a mean over so many samples, each from 0 to 1, which vary at most as passes and failures do; that both are of
    the same prompts and seeds makes it less. 0 where nothing is known of the samples, or they are no shares."""
    share = (before + now) / 2
    if not samples or not (0 <= before <= 1 and 0 <= now <= 1):
        return 0.0
    return _ERRORS * math.sqrt(2 * share * (1 - share) / samples)


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
