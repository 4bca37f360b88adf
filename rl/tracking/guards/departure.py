"""A decoder that goes on moving away from its base and gains nothing by it any more."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from rl.config.sections.guards import WINDOW
from rl.run_folder.records import Alarm

DISTANCE, REWARD = "decoder/velocity_mse", "decoder/score"
STEPS = 25  # over which both are compared; none is before twice as many, when the way has just begun


def compared_over(steps: int) -> int:
    """Of a decoder that learns in so many: a run of less than ``3 * STEPS`` is compared over a third of itself."""
    return max(WINDOW, min(STEPS, steps // 3))


class Departure:
    """Compares the last ``WINDOW`` steps with those ``span`` before: the alarm is for a distance to the base that rose
    by more than ``allowed`` (a share of itself) where the reward did not rise by more than twice its standard error.
    """

    def __init__(self, allowed: float | None, span: int = STEPS) -> None:
        self._allowed, self._span = allowed, span
        self._seen: deque[tuple[float, float]] = deque(maxlen=span + WINDOW)
        self._steps = 0
        self._active = False

    def check(self, step: int, metrics: Mapping[str, float | None]) -> Alarm | None:
        distance, reward = metrics.get(DISTANCE), metrics.get(REWARD)
        if distance is None or reward is None or not math.isfinite(distance + reward):
            return None
        self._seen.append((distance, reward))
        self._steps += 1
        if self._allowed is None or self._steps < 2 * self._span:
            return None
        before, now = list(self._seen)[:WINDOW], list(self._seen)[-WINDOW:]
        far, farther = (_mean([one for one, _ in rows]) for rows in (before, now))
        idle = farther > far * (1 + self._allowed) and not _rose([one for _, one in before], [one for _, one in now])
        fresh, self._active = idle and not self._active, idle
        if not fresh:
            return None
        sentence = (
            f"the decoder's distance to its base rose from {far:.3g} to {farther:.3g} in the {self._span} steps to "
            f"step {step + 1}, in which its reward did not rise (guards.reference_rise: {self._allowed:.0%}): what it "
            "learns now is not what is rewarded; stop here, lower decoder.lr, or pull it harder to the base"
        )
        return Alarm(DISTANCE, step, far, farther, sentence)


def _rose(before: Sequence[float], now: Sequence[float]) -> bool:
    """Beyond twice the standard error of the difference of the means."""
    error = math.sqrt(_variance(before) / len(before) + _variance(now) / len(now))
    return _mean(now) - _mean(before) > 2 * error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    return sum((value - _mean(values)) ** 2 for value in values) / (len(values) - 1)
