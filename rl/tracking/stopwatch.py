"""Seconds per stage of one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch.profiler import record_function

from rl.process.out_of_memory import memory_of_phase


class Stopwatch:
    """``with timer("sample"): ...`` adds to ``timer.seconds["sample"]``, and is a range of that name in a trace."""

    def __init__(self, seconds: Mapping[str, float] | None = None, tell: Callable[[str], None] | None = None) -> None:
        """``seconds``: of the stages before, to go on from; ``tell`` hears of each stage when it begins."""
        self.seconds = dict(seconds or {})
        self._tell = tell

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        if self._tell is not None:
            self._tell(stage)
        started = time.perf_counter()
        with memory_of_phase(stage), record_function(stage):
            yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
