"""``rl.launch`` that kills itself (SIGKILL) at a chosen point: ``killed_launch.py POINT config ...``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl import milestones
from rl.collect import Collect
from rl.launch import main
from rl.run_folder import checkpoint
from rl.tracking.tracker import Tracker
from rl.trainer.trainer import Trainer


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_middle_of_writing_step_4(original: Callable[..., None]) -> Callable[..., None]:
    def write(folder: Path, step: int, *rest: Any) -> None:
        if step == 4:
            die()
        original(folder, step, *rest)

    return write


def before_logging_step(number: int) -> Callable[..., None]:
    original = Tracker.log

    def log(self: Tracker, step: int, *rest: Any) -> None:
        if step == number:
            die()
        original(self, step, *rest)

    return log


def before_update(version: int) -> Callable[..., dict[str, float]]:
    """Of the decoder, whose weights have seen so many updates."""
    original = Trainer.update

    def update(self: Trainer[Any, Any, Any], batch: Any) -> dict[str, float]:
        if self._trainable.name == "decoder" and self.version == version:
            die()
        return original(self, batch)

    return update


def before_collecting_step(number: int | None) -> Callable[..., Any]:
    """``None``: never. Tells which steps are collected."""
    original = Collect.__call__

    def collect(self: Collect, step: int, *rest: Any, **options: Any) -> Any:
        if step == number:
            die()
        print(f"collected here: step {step}", flush=True)
        return original(self, step, *rest, **options)

    return collect


if __name__ == "__main__":
    point = sys.argv.pop(1)
    if point == "checkpoint":
        checkpoint._write_manifest = in_the_middle_of_writing_step_4(checkpoint._write_manifest)
    elif point == "step":
        Tracker.log = before_logging_step(3)  # type: ignore[method-assign]
    elif point == "decoder's second update of step 3":
        Trainer.update = before_update(3 * 3 + 1)  # type: ignore[method-assign]
    elif point == "collecting step 3":
        Collect.__call__ = before_collecting_step(2)  # type: ignore[method-assign]
    elif point == "collecting step 6":
        Collect.__call__ = before_collecting_step(5)  # type: ignore[method-assign]
    elif point == "nowhere":
        Collect.__call__ = before_collecting_step(None)  # type: ignore[method-assign]
    elif point == "first":
        Tracker.log = before_logging_step(1)  # type: ignore[method-assign]
    elif point == "evaluation":
        original = milestones.run_evaluation
        milestones.run_evaluation = lambda run, done: die() if done == 3 else original(run, done)  # type: ignore
    sys.exit(main())
