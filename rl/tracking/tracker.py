"""Where a run's numbers go: metrics.jsonl, pictures, the console, and the trackers of ``tracking.to``."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rl.config.schema import TrackingConfig
from rl.run_folder.records import METRICS_FILE, Alarm, disk_errors, lines_before, write_atomically
from rl.tracking.console import make_console
from rl.tracking.contract import STAGES, Console
from rl.tracking.grid import make_grid
from rl.tracking.memory import peaks
from rl.tracking.services import RunIdentity, TrackerServices
from rl.tracking.terminal import own_terminal
from rl.types import UserError

PICTURES_FOLDER, LOG_FILE = "pictures", "log.txt"
EVALUATION_PREFIXES = ("eval/", "eval_graded/")


class Tracker:
    """One per run, on rank 0. Steps are numbered so that a resumed run writes ``resume_step`` next.

    Use it as a context manager: leaving it closes the live view and the event files, whatever happened. Until then it
    alone writes on the terminal, and whatever else is printed goes to ``log.txt``.
    Raises UserError if a new run (``resume_step=None``) meets another run's metrics, on a full disk,
    and if a tracker cannot be started.
    """

    def __init__(
        self,
        run_folder: Path,
        config: TrackingConfig,
        total_steps: int,
        resume_step: int | None = None,
        resolved: Mapping[str, object] | None = None,
    ) -> None:
        """``resolved``: the run's whole configuration as plain data, for the trackers."""
        self.run_folder = run_folder
        self._path = run_folder / METRICS_FILE
        run_folder.mkdir(parents=True, exist_ok=True)
        self._kept = None if resume_step is None else lines_before(run_folder, resume_step)
        """Of an earlier start: what stays in the log when the first new row replaces the rest."""
        if resume_step is None and self._path.exists() and self._path.stat().st_size > 0:
            raise UserError(
                f"{run_folder} already holds the metrics of another run: choose another run.folder, or resume that run"
            )
        with ExitStack() as closing:  # closes what is open already if the rest fails
            self.console = self._open_console(config, total_steps, resume_step, closing)
            with disk_errors(self._path, "opening the log"):
                self._file = self._path.open("a", encoding="utf-8")
            closing.callback(self._close_file)
            name = config.name or run_folder.resolve().name
            identity = RunIdentity(
                run_folder, config.project, name, config.group, config.tags, resume_step, resolved or {}
            )
            self._services = TrackerServices(config.to, identity, self.message)
            closing.callback(self._services.finish)
            self._workers: Mapping[str, float] = {}
            self._closing = closing.pop_all()  # runs every closing step, even after one of them has failed

    def _open_console(
        self, config: TrackingConfig, total_steps: int, resume_step: int | None, closing: ExitStack
    ) -> Console:
        log = self.run_folder / LOG_FILE
        if config.console == "off":
            return Console()
        if resume_step is None:
            log.unlink(missing_ok=True)
        with disk_errors(log, "opening the log of what libraries say"):
            stream = closing.enter_context(own_terminal(log))
        console = make_console(config.console, stream, self.run_folder.name, total_steps, resume_step or 0)
        closing.callback(console.close)
        return console

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
        line["memory"] = memory = peaks()
        with disk_errors(self._path, f"logging step {step + 1}"):
            self._append(json.dumps(line, allow_nan=False) + "\n")
        known = {name: value for name, value in values.items() if value is not None}
        numbers = {name: value for name, value in known.items() if not name.startswith(EVALUATION_PREFIXES)}
        measured = {f"seconds/{name}": value for name, value in seconds.items()}
        measured |= {f"memory/{name}": value for name, value in memory.items()}
        self._services.log({**numbers, **measured, **self._workers}, step + 1)
        self._workers = {}
        self.console.step(step, known, seconds, alarms)

    def _append(self, line: str) -> None:
        if self._kept is not None:
            self._replace(self._kept + line)
            return
        self._file.write(line)
        self._file.flush()

    def _replace(self, text: str) -> None:
        """The whole log at one blow: a resumed run that ends before its first row has taken none away."""
        write_atomically(self._path, text)
        self._file.close()
        self._file, self._kept = self._path.open("a", encoding="utf-8"), None

    def settle(self) -> None:
        """The run is at its end: later rows of an earlier start, which was to be longer, are not its own."""
        if self._kept is not None:
            self._replace(self._kept)

    def workers(self, numbers: Mapping[str, float]) -> None:
        """How busy a cluster was until the step that is logged next, for people and trackers; ``metrics.jsonl``, which
        is the same in every run of a configuration, has nothing of it."""
        self._workers = numbers
        self.console.workers(numbers)

    def evaluated(self, done: int, metrics: Mapping[str, float], grid: Path | None) -> None:
        """An evaluation after ``done`` steps, with its picture grid, to the trackers; 0 is the base."""
        self._services.log(metrics, done)
        if grid is not None:
            with Image.open(grid) as picture:
                self._services.picture("evaluation", picture.convert("RGB"), done)

    def pictures(
        self,
        step: int,
        name: str,
        pictures: NDArray[np.uint8],
        captions: Sequence[str],
        verdicts: Sequence[object] = (),
    ) -> Path:
        """(N, H, W, 3) pictures -> ``pictures/<name>-<step>.png``, a captioned grid; also to the trackers.

        ``verdicts``: plain data about each, written beside it as JSON lines.
        """
        path = self.run_folder / PICTURES_FOLDER / f"{name}-{step:06d}.png"
        grid = make_grid(pictures, captions)
        grid.save(path)
        if verdicts:
            write_atomically(path.with_suffix(".jsonl"), "".join(json.dumps(one) + "\n" for one in verdicts))
        self._services.picture(name, grid.sheet, step + 1)
        return path

    def message(self, text: str) -> None:
        """One sentence for the person watching; it stays visible above the live view."""
        self.console.message(text)

    def starting(self, what: str) -> None:
        """Before the first step: what is loaded or started now."""
        self.console.starting(what)

    def stage(self, name: str) -> None:
        """What goes on from now on, by the name that its seconds have: ``sample``, ``paint``, ..."""
        self.console.stage(STAGES.get(name, name))

    def advance(self, done: int, total: int, unit: str) -> None:
        """How far the stage is: 64 of 256 ``pictures``."""
        self.console.advance(done, total, unit)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """How far something long of many stages is: 0 when it begins, ``total`` when it is over."""
        self.console.progress(task, done, total, unit)

    def close(self) -> None:
        self._closing.close()

    def _close_file(self) -> None:
        with disk_errors(self._path, "closing the log"):  # what could not be written is tried once more here
            self._file.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.close()
        log = self.run_folder / LOG_FILE
        if not isinstance(error, Exception) or not log.exists():
            return
        if isinstance(error, UserError):
            if error.__cause__ is not None:  # somebody's own code, or a library: the sentence may not be enough
                _add_traceback(log, error.__cause__)
                sys.stderr.write(f"the traceback is in {log}\n")
        elif log.stat().st_size:
            sys.stderr.write(f"what libraries said meanwhile is in {log}\n")


def _add_traceback(log: Path, error: BaseException) -> None:
    with suppress(OSError), log.open("a", encoding="utf-8") as file:  # what matters is told without it
        traceback.print_exception(error, file=file)


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None  # JSON has no NaN
