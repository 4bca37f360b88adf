"""The memory of a worker: kept from call to call, and watched for growth.

Left alone, glibc gives large arrays back to the system after each use, and the next call pays for the same pages again:
a third of the time of SSIM or Mask2Former on a CPU. ``rewards.needs.KEEP_MEMORY`` ends that. What is merely kept is no
leak, so ``Growth`` gives it back before it judges.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress


class Growth:
    """Whether this process has grown by more than ``limit_mb`` since it was first asked."""

    def __init__(self, limit_mb: float) -> None:
        self._limit_mb = limit_mb
        self._first_mb: float | None = None
        self._look_above_mb = 0.0

    def exceeded(self) -> bool:
        """The first answer is no, however large the model: lazy ones load with their first call."""
        if self._first_mb is None:
            give_back()
            self._first_mb = resident_mb()
            self._look_above_mb = self._first_mb + self._limit_mb
            return False
        now_mb = resident_mb()
        if now_mb <= self._look_above_mb:
            return False
        give_back()
        self._look_above_mb = now_mb + self._limit_mb
        return resident_mb() - self._first_mb > self._limit_mb


def resident_mb() -> float:
    """Memory of this process alone in MiB: what others map as well (the pictures) is not counted."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


def give_back() -> None:
    """Free memory that malloc keeps for later goes back to the system; only glibc can do that."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
