"""How busy the workers of a run on a cluster were: ``cluster.jsonl``, one line a step. Timing alone: what was learnt
does not depend on it, and no two runs agree about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rl.process.disk import disk_errors
from rl.types import UserError

USAGE_FILE, TRAINER = "cluster.jsonl", "trainer"
WORKER_WORDS = {"sample": "sampler", "paint": "painter"}
"""By role: what its workers are called, with a number behind it."""
TRAINER_RESTARTS = "trainer restarts"
"""Among a row's counts: how often all ranks of the trainer were started again."""


@dataclass(frozen=True)
class CallSpan:
    """What a worker did for a step; seconds since any beginning, the same for all."""

    worker: str
    step: int
    start: float
    end: float


@dataclass(frozen=True)
class UsageRow:
    """A step from the order to learn the one before it to its own."""

    step: int
    staleness: int
    """Steps between the weights that made it and those that learn from it."""
    publish_lag: float | None
    """Seconds from the publication of the weights that made it to the first call that worked with them; ``None``:
    they were there from the start."""
    seconds: float
    waited: float
    """Of them the trainer had nothing to do."""
    busy: Mapping[str, float]
    """Seconds of all workers of a role together, within ``seconds``."""
    workers: Mapping[str, int]
    queued: Mapping[str, int]
    """Groups of the steps under way that are still to be sampled, painted, scored."""
    counts: Mapping[str, int]
    """Since the start of the run or its resume: leases, deaths, second leases, restarts of the trainer."""
    calls: Sequence[CallSpan] = field(default_factory=list)
    """Those that made the step, and the trainer's update of it."""

    @property
    def shares(self) -> dict[str, float]:
        """By role, of the time that went by."""
        wall = max(self.seconds, 1e-9)
        found = {role: self.busy.get(role, 0.0) / (count * wall) for role, count in self.workers.items() if count}
        return found | {TRAINER: max(0.0, 1 - self.waited / wall)}

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def append_usage(run_folder: Path, row: UsageRow) -> None:
    path = run_folder / USAGE_FILE
    with disk_errors(path, "telling how busy workers are"), path.open("a", encoding="utf-8") as file:
        file.write(row.line())


def read_usage(run_folder: Path) -> list[UsageRow]:
    """In the order of steps; of one that was repeated after a resume the last line counts. Empty for a run without a
    cluster. A last line without its newline is what a kill leaves: it is dropped. Raises: UserError."""
    path = run_folder / USAGE_FILE
    if not path.exists():
        return []
    rows: dict[int, UsageRow] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            row = _row(json.loads(line))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}:{number} is not a line about a step's workers ({error}); remove the line"
            ) from error
        rows = {step: one for step, one in rows.items() if step < row.step} | {row.step: row}
    return list(rows.values())


def _row(found: dict[str, Any]) -> UsageRow:
    return UsageRow(**{**found, "calls": [CallSpan(**call) for call in found["calls"]]})
