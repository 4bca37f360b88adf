"""The learning rate of each update."""

from __future__ import annotations

import math

from rl.config.section import Optimisation


def learning_rate(config: Optimisation, update: int, steps: int) -> float:
    """Of update 0, 1, ... of a run of ``steps``."""
    warmup, total = config.warmup_in(steps), config.updates_in(steps)
    return config.lr * lr_factor(update, warmup, total, config.schedule, config.lr_end)


def lr_factor(update: int, warmup: int, total: int, schedule: str, end: float = 0.0) -> float:
    """Learning-rate multiplier of update 0, 1, ...: linear warm-up, then constant, or half a cosine that would reach
    ``end`` at ``total`` (SGDR, arXiv 1608.03983, equation 5). A function of the update alone, so resuming needs
    no state.
    """
    if update < warmup:
        return (update + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    return end + (1.0 - end) * (0.5 * (1.0 + math.cos(math.pi * progress)))
