"""Traces of chosen steps by torch's profiler, for ``chrome://tracing`` or https://ui.perfetto.dev."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rl.run_folder.records import disk_errors

if TYPE_CHECKING:
    from torch.profiler import profile

PROFILE_FOLDER = "profile"


class StepProfile:
    """Use it as a context manager around the steps; ``reach`` is called between them. Without steps it does nothing."""

    def __init__(self, steps: Sequence[int], run_folder: Path, tell: Callable[[str], None]) -> None:
        """``steps``: counted from 1, as people do."""
        self._steps, self._folder, self._tell = frozenset(steps), run_folder / PROFILE_FOLDER, tell
        self._open = ExitStack()
        self._running: tuple[int, profile] | None = None

    def reach(self, done: int) -> None:
        """``done`` steps are over: ends the trace of the last one, and begins that of the next if it is chosen."""
        if self._running is not None:
            self._write(*self._running)
            self._running = None
        if done + 1 in self._steps:
            self._begin(done + 1)

    def _begin(self, step: int) -> None:
        import torch.profiler as torch_profiler

        kinds = torch_profiler.supported_activities()
        self._running = step, self._open.enter_context(torch_profiler.profile(activities=kinds, record_shapes=True))

    def _write(self, step: int, trace: profile) -> None:
        self._open.close()
        path = self._folder / f"step-{step}.json.gz"
        with disk_errors(path, "writing the profile"):
            self._folder.mkdir(parents=True, exist_ok=True)
            trace.export_chrome_trace(str(path))
        self._tell(f"profile of step {step}: {path}, to be opened in chrome://tracing or ui.perfetto.dev")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
