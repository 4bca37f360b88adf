"""How each run of a sweep stands, and ``sweep.jsonl``, which says so."""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rl.evaluation.results import TaskResult, load_all, with_graded
from rl.run_folder.environment import ENVIRONMENT_FILE
from rl.run_folder.records import read_json, read_metrics, write_atomically
from rl.sweep.plan import SweepRun
from rl.tracking.clock import total_seconds
from rl.types import UserError

RESULT_FILE = "sweep.jsonl"
State = Literal["waiting", "running", "done", "kept", "reused", "failed", "stopped early"]
COMPLETE = ("done", "kept", "reused")
_TAIL_LINES = 15


@dataclass
class Member:
    """A run of the sweep. ``source``: the folder its results are read from; ``reason``: why it failed or stopped."""

    run: SweepRun
    state: State = "waiting"
    source: Path = field(default_factory=Path)
    reason: str = ""
    started: float = field(default_factory=time.monotonic)
    took: float | None = None

    def __post_init__(self) -> None:
        if self.source == Path():
            self.source = self.run.folder

    @property
    def complete(self) -> bool:
        return self.state in COMPLETE

    def ended(self, code: int) -> None:
        """Its process has."""
        self.took = time.monotonic() - self.started
        if code == 0 and len(load_all(self.run.folder)) > 1:
            self.state = "done"
            return
        self.state = "failed"
        self.reason = why(code, self.tail())

    def tail(self) -> str:
        """The last lines of its log."""
        if not self.run.log.is_file():
            return ""
        with self.run.log.open(encoding="utf-8", errors="replace") as lines:
            return "".join(deque(lines, maxlen=_TAIL_LINES)).rstrip()


def why(code: int, tail: str) -> str:
    """One sentence: the run's own, or what the exit code says."""
    if code == 0:
        return "it ended without an evaluation before and one after: see eval.at_start, at_end"
    if code == -signal.SIGKILL:
        return "killed by signal 9: somebody did, or the machine ran out of memory"
    if code < 0:
        return f"killed by signal {-code}"
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error:")]
    sentence = (told or lines or ["it said nothing"])[-1].removeprefix("error:").strip()
    return f"exit code {code}: {sentence}"


def write_members(folder: Path, members: Sequence[Member]) -> None:
    """``sweep.jsonl``: one line per run, also of those that failed or wait."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RESULT_FILE, "".join(json.dumps(_line(one)) + "\n" for one in members))


def ended_before(folder: Path, runs: Iterable[SweepRun], state: State) -> dict[Path, str]:
    """Runs that ended in ``state`` in an earlier start of the sweep, with why."""
    path = folder / RESULT_FILE
    if not path.is_file():
        return {}
    known = {str(run.folder): run.folder for run in runs}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {
            known[one["folder"]]: one["reason"] for one in lines if one["state"] == state and one["folder"] in known
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, the runs stay") from error


def _line(member: Member) -> dict[str, object]:
    run = member.run
    line: dict[str, object] = {
        "arm": run.arm,
        "seed": run.seed,
        "state": member.state,
        "reason": member.reason or None,
        "folder": str(run.folder),
        "source": str(member.source),
        "command": ["python", *run.command[1:]] if run.command else [],
        "steps": run.steps,
    }
    return line | (_facts(member.source) if member.complete or member.state == "stopped early" else {})


def _facts(folder: Path) -> dict[str, object]:
    rows, evaluations = read_metrics(folder), with_graded(load_all(folder))
    environment = folder / ENVIRONMENT_FILE
    sessions = read_json(environment)["sessions"] if environment.is_file() else []
    scores = {
        reward: {
            task: {
                "before": _mean(evaluations[0].results.get(reward, {}).get(task)),
                "after": _mean(result),
            }
            for task, result in tasks.items()
        }
        for reward, tasks in evaluations[-1].results.items()
    }
    return {
        "steps_done": rows[-1].step + 1 if rows else 0,
        "pictures": int(sum(row.metrics.get("images") or 0 for row in rows)),
        "seconds": round(sum(total_seconds(row.seconds) for row in rows), 3),
        "alarms": [alarm.sentence for row in rows for alarm in row.alarms],
        "scores": scores,
        "code": sessions[-1].get("code") if sessions else None,
    }


def _mean(result: TaskResult | None) -> float | None:
    return None if result is None or result.estimate is None else result.estimate.mean
