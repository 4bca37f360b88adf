"""Curricula: how often each task is drawn, given how the policy does at it. Pure functions, one per rule.

Each takes a record of every task and returns a weight of 0 or more for each; a task's probability is its weight over
their sum, in place of the mixture of the prompt list. ``floor`` keeps every task in sight, so that one that is
forgotten comes back. A task of which nothing was seen yet counts as the most useful.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rl.config.declared import declares
from rl.data.drawing.tasks import TaskRecord

Curriculum = Callable[[Sequence[TaskRecord]], Sequence[float]]


@declares(not_negative=("floor",))
def learnability(tasks: Sequence[TaskRecord], *, floor: float = 0.05) -> list[float]:
    """p (1 - p) + floor, the variance of success: sampling for learnability (arXiv 2502.12272)."""
    return [p * (1 - p) + floor for p in _known((task.success for task in tasks), 0.5)]


@declares(not_negative=("floor",))
def failure(tasks: Sequence[TaskRecord], *, floor: float = 0.05) -> list[float]:
    """1 - p + floor, what is still wrong: prioritized sampling of Kimi k1.5 (arXiv 2501.12599)."""
    return [1 - p + floor for p in _known((task.success for task in tasks), 0.5)]


@declares(not_negative=("floor",))
def signal(tasks: Sequence[TaskRecord], *, floor: float = 0.05) -> list[float]:
    """The share of a task's groups whose rewards were not all equal, + floor: signal-rich groups first, which is what
    DAPO's dynamic sampling (arXiv 2503.14476, equation 11) comes to, without sampling what it throws away."""
    return [share + floor for share in _known((task.signal for task in tasks), 1.0)]


def _known(values: Iterable[float | None], unknown: float) -> list[float]:
    return [unknown if value is None else value for value in values]
