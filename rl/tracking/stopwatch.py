"""Seconds per stage of one step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """``with timer("sample"): ...`` adds to ``timer.seconds["sample"]``."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        """``seconds``: of the stages before, to go on from."""
        self.seconds = dict(seconds or {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
