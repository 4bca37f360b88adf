"""Where a run's numbers go: metrics.jsonl, TensorBoard, pictures, the console, and W&B when asked."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from rl.config.schema import TrackingConfig
from rl.run_folder.records import METRICS_FILE, Alarm, disk_errors, truncate_metrics, write_atomically
from rl.tracking.console import Console, make_console
from rl.tracking.grid import make_grid
from rl.types import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD_FOLDER, PICTURES_FOLDER = "tensorboard", "pictures"


class _WandbRun(Protocol):
    """What is used of ``wandb.Run``: the package is optional."""

    def log(self, data: dict[str, float], *, step: int) -> None: ...

    def finish(self) -> None: ...


class Tracker:
    """One per run, on rank 0. Steps are numbered so that a resumed run writes ``resume_step`` next.

    Use it as a context manager: leaving it closes the live view and the event files, whatever happened.
    Raises UserError if a new run (``resume_step=None``) meets another run's metrics, on a full disk,
    and if W&B is asked for but is not installed.
    """

    def __init__(
        self, run_folder: Path, config: TrackingConfig, total_steps: int, resume_step: int | None = None
    ) -> None:
        self.run_folder = run_folder
        self._path = run_folder / METRICS_FILE
        run_folder.mkdir(parents=True, exist_ok=True)
        if resume_step is not None:
            truncate_metrics(run_folder, resume_step)
        elif self._path.exists() and self._path.stat().st_size > 0:
            raise UserError(
                f"{run_folder} already holds the metrics of another run: choose another run.folder, or resume that run"
            )
        self._closing = ExitStack()  # runs every closing step, even after one of them has failed
        self._wandb = _start_wandb(run_folder) if config.wandb else None
        self._events = _open_events(run_folder, resume_step) if config.tensorboard else None
        with disk_errors(self._path, "opening the log"):
            self._file = self._path.open("a", encoding="utf-8")
        if self._wandb is not None:
            self._closing.callback(self._wandb.finish)
        if self._events is not None:
            self._closing.callback(self._events.close)
        self._closing.callback(self._close_file)
        self.console: Console = make_console(config.console, run_folder.name, total_steps, resume_step or 0)
        self._closing.callback(self.console.close)

    def log(
        self,
        step: int,
        metrics: Mapping[str, float],
        timings: Mapping[str, float],
        alarms: Sequence[Alarm] = (),
    ) -> None:
        """``metrics``: values determined by config and seed; ``timings``: seconds per stage of this step."""
        values = {name: _finite(value) for name, value in metrics.items()}
        seconds = {name: round(float(value), 6) for name, value in timings.items()}
        line = {"step": step, "metrics": values, "seconds": seconds, "alarms": [asdict(alarm) for alarm in alarms]}
        with disk_errors(self._path, f"logging step {step}"):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        known = {name: value for name, value in values.items() if value is not None}
        numbers = known | {f"seconds/{name}": value for name, value in seconds.items()}
        if self._events is not None:
            with disk_errors(self.run_folder / TENSORBOARD_FOLDER, f"logging step {step}"):
                for name, value in numbers.items():
                    self._events.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)
        self.console.step(step, known, seconds, alarms)

    def pictures(
        self,
        step: int,
        name: str,
        pictures: NDArray[np.uint8],
        captions: Sequence[str],
        verdicts: Sequence[object] = (),
    ) -> Path:
        """(N, H, W, 3) pictures -> ``pictures/<name>-<step>.png``, a captioned grid; also into TensorBoard.

        ``verdicts``: plain data about each, written beside it as JSON lines.
        """
        path = self.run_folder / PICTURES_FOLDER / f"{name}-{step:06d}.png"
        grid = make_grid(pictures, captions)
        grid.save(path)
        if verdicts:
            write_atomically(path.with_suffix(".jsonl"), "".join(json.dumps(one) + "\n" for one in verdicts))
        if self._events is not None:
            with disk_errors(self.run_folder / TENSORBOARD_FOLDER, f"logging pictures of step {step}"):
                self._events.add_image(name, np.asarray(grid.sheet), step, dataformats="HWC")
        return path

    def message(self, text: str) -> None:
        """One sentence for the person watching; it stays visible above the live view."""
        self.console.message(text)

    def close(self) -> None:
        self._closing.close()

    def _close_file(self) -> None:
        with disk_errors(self._path, "closing the log"):  # what could not be written is tried once more here
            self._file.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None  # JSON has no NaN


def _open_events(run_folder: Path, resume_step: int | None) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # imports torch: only when events are wanted

    folder = run_folder / TENSORBOARD_FOLDER
    with disk_errors(folder, "opening the event file"):
        return SummaryWriter(str(folder), purge_step=resume_step)


def _start_wandb(run_folder: Path) -> _WandbRun:
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError as error:
        raise UserError(
            "tracking.wandb is true but wandb is not installed: pip install wandb, or set it to false"
        ) from error
    run: _WandbRun = wandb.init(dir=str(run_folder), name=run_folder.name)
    return run
