"""Traces of chosen steps by torch's profiler, for ``chrome://tracing`` or https://ui.perfetto.dev."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from rl.run_folder.records import disk_errors

PROFILE_FOLDER = "profile"
T = TypeVar("T")


def profiled(
    collected: Iterator[T], first: int, steps: Sequence[int], run_folder: Path, tell: Callable[[str], None]
) -> Iterator[T]:
    """What is collected, one step after another from ``first`` on; while it is made and used up, a step is traced if
    it is one of ``steps``, counted from 1 as people do. Without any, ``collected`` itself.
    """
    return _profiled(collected, first + 1, frozenset(steps), run_folder / PROFILE_FOLDER, tell) if steps else collected


def _profiled(
    collected: Iterator[T], step: int, steps: frozenset[int], folder: Path, tell: Callable[[str], None]
) -> Iterator[T]:
    import torch.profiler as torch_profiler

    while True:
        with ExitStack() as tracing:  # also closed when the run ends in the middle of a step
            trace = None
            if step in steps:
                kinds = torch_profiler.supported_activities()
                trace = tracing.enter_context(torch_profiler.profile(activities=kinds, record_shapes=True))
            try:
                yield next(collected)  # and kept by nobody here
            except StopIteration:
                return
        if trace is not None:
            path = folder / f"step-{step}.json.gz"
            with disk_errors(path, "writing the profile"):
                folder.mkdir(parents=True, exist_ok=True)
                trace.export_chrome_trace(str(path))
            tell(f"profile of step {step}: {path}, to be opened in chrome://tracing or ui.perfetto.dev")
        step += 1
