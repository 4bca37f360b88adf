"""Seconds and peak memory of each part of a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

_RESET, _STATUS, _PEAK = Path("/proc/self/clear_refs"), Path("/proc/self/status"), "VmHWM:"


@dataclass(frozen=True)
class Measured:
    """``seconds`` for ``rows`` of something; ``peak`` in bytes: of the accelerator's memory where there is one, else
    of this process; 0 where nobody knows."""

    seconds: float
    rows: int
    peak: int

    @property
    def each(self) -> float:
        """Seconds a row."""
        return self.seconds / self.rows


@dataclass
class Meter:
    """``with meter("paint", rows=2): ...``; a part that is measured again keeps its last time and its highest peak."""

    parts: dict[str, Measured] = field(default_factory=dict)
    now: Callable[[], float] = time.perf_counter

    @contextmanager
    def __call__(self, part: str, rows: int) -> Iterator[None]:
        _forget_peak()
        began = self.now()
        yield
        _wait()
        before = self.parts.get(part)
        self.parts[part] = Measured(self.now() - began, rows, max(_peak(), before.peak if before else 0))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):  # not everybody may: the peak is then that of the whole process
        _RESET.write_text("5")


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        lines = [line for line in _STATUS.read_text().splitlines() if line.startswith(_PEAK)]
        return int(lines[0].split()[1]) << 10 if lines else 0
    return 0
