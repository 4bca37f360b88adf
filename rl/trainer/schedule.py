"""The learning rate of each update."""

from __future__ import annotations

import math


def lr_factor(update: int, warmup: int, total: int, schedule: str) -> float:
    """Learning-rate multiplier of update 0, 1, ...: linear warm-up, then constant, or half a cosine that would reach 0
    at ``total`` (SGDR, arXiv 1608.03983, equation 5). A function of the update alone, so resuming needs no state.
    """
    if update < warmup:
        return (update + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * progress))
