"""The run folder as an interface: reading and writing the files that reports, sweeps and a resumed run depend on.

``metrics.jsonl`` holds one object per step: ``{"step": 3, "metrics": {...}, "seconds": {...}, "alarms": [...]}``.
Everything under ``metrics`` is a function of config and seed, so two runs can be compared bit for bit on it;
wall-clock times stand apart under ``seconds``, the largest memory so far under ``memory``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl.process.disk import disk_errors as disk_errors
from rl.types import UserError

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Alarm:
    """A metric that left its band: ``value`` is smoothed, ``baseline`` is its mean over the first steps."""

    metric: str
    step: int
    baseline: float
    value: float
    sentence: str


@dataclass(frozen=True)
class Row:
    """One line of metrics.jsonl. A metric that was not finite is ``None``."""

    step: int
    metrics: Mapping[str, float | None]
    seconds: Mapping[str, float] = field(default_factory=dict)
    alarms: Sequence[Alarm] = ()
    memory: Mapping[str, float] = field(default_factory=dict)
    """GB; empty in the log of an older version."""


def write_atomically(path: Path, text: str) -> None:
    """Writes to a neighbour and renames it, so that a reader (or a kill) never sees half a file."""
    with disk_errors(path, "replacing the file"):
        neighbour = path.with_name(path.name + ".tmp")
        with neighbour.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(neighbour, path)


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: {path.parent} is not a run folder, or the run has not come so far"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno} is not valid JSON ({error.msg}); the file was damaged or edited"
        ) from error


def read_metrics(run_folder: Path) -> list[Row]:
    """All rows of metrics.jsonl in order; a missing file is an empty list.

    A last line without its newline is what a kill in the middle of a write leaves: it is dropped. Every
    other line that cannot be read raises UserError.
    """
    path = run_folder / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found = json.loads(line)
            alarms = [Alarm(**alarm) for alarm in found["alarms"]]
            rows.append(Row(found["step"], found["metrics"], found["seconds"], alarms, found.get("memory", {})))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            message = f"{path}:{number} is not a metrics line ({error}); remove the line or resume from a checkpoint"
            raise UserError(message) from error
    return rows


def lines_before(run_folder: Path, resume_step: int) -> str:
    """Of metrics.jsonl the lines with ``step < resume_step`` byte for byte: a resumed run writes the rest again.

    Raises: UserError as ``read_metrics``.
    """
    rows = read_metrics(run_folder)
    if not rows:
        return ""
    lines = (run_folder / METRICS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
    return "".join(line + "\n" for line, row in zip(lines, rows, strict=True) if row.step < resume_step)


def require_log(run_folder: Path) -> None:
    """Raises: UserError if the log is not there any more: an open file can be written to long after it was removed."""
    if not (run_folder / METRICS_FILE).exists():
        raise UserError(
            f"{run_folder / METRICS_FILE} is gone: the run folder was removed or moved while the run was going on; put "
            "it back and resume the run, or start it again"
        )
