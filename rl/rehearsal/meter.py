"""Seconds and peak memory of each part of a rehearsal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch

_LOOK_S = 0.01


@dataclass(frozen=True)
class Measured:
    """``seconds`` for ``rows`` of something; ``peak`` in bytes: of the accelerator's memory where there is one, else
    of this process."""

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
        with (_on_gpu if torch.cuda.is_available() else _in_process)() as peak:
            began = self.now()
            yield
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = self.now() - began
        before = self.parts.get(part)
        self.parts[part] = Measured(seconds, rows, max(peak(), before.peak if before else 0))


@contextmanager
def _on_gpu() -> Iterator[Callable[[], int]]:
    torch.cuda.reset_peak_memory_stats()
    yield torch.cuda.max_memory_allocated


@contextmanager
def _in_process() -> Iterator[Callable[[], int]]:
    """Looked at now and then: Linux keeps a peak, too, but setting that back would take it from whoever reads it."""
    process, over = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def look() -> None:
        while not over.wait(_LOOK_S):
            seen[0] = max(seen[0], process.memory_info().rss)

    looking = threading.Thread(target=look, name="memory", daemon=True)
    looking.start()
    try:
        yield lambda: seen[0]
        seen[0] = max(seen[0], process.memory_info().rss)
    finally:
        over.set()
        looking.join()
