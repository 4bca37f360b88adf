"""One short run in a process of its own, beside what the dry run expects of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.config.load import dump
from rl.memory.cases import Case
from rl.preflight.memory.planning import memory_of
from rl.preflight.prompts import check_data
from rl.run_folder.records import read_metrics
from rl.types import UserError


@dataclass(frozen=True)
class MeasuredMemory:
    """Bytes."""

    case: str
    expected: int
    phase: str
    found: int

    @property
    def off(self) -> float:
        """Of the estimate, as a share of the measurement."""
        return self.expected / self.found - 1


def measure(case: Case, extra: Sequence[str] = ()) -> MeasuredMemory:
    """``extra``: settings on top of the case's own. Raises: UserError with the run's last words if it failed."""
    with tempfile.TemporaryDirectory(prefix="easel-memory-") as place:
        folder = Path(place)
        config = case.config(case.policy(folder / "policy"), folder / "run", extra)
        train_prompts, eval_prompts = check_data(config)
        expected = memory_of(config, [*train_prompts, *eval_prompts], held_out=len(eval_prompts))
        (folder / "run.yaml").write_text(dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "rl.launch", str(folder / "run.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        rows = read_metrics(folder / "run")
        if ended.returncode or not rows:
            raise UserError(f"the run of {case.name} failed: {(ended.stderr.strip().splitlines() or ['no word'])[-1]}")
        peak = rows[-1].memory["gpu_peak_gb" if "gpu_peak_gb" in rows[-1].memory else "peak_gb"]
        return MeasuredMemory(case.name, expected.peak, expected.largest, int(peak * 1e9))


def table(found: Sequence[MeasuredMemory]) -> str:
    """As the README shows it."""
    rows = [
        f"| {one.case} | {one.expected / 1e9:.2f} GB | {one.phase} | {one.found / 1e9:.2f} GB | {one.off:+.0%} |"
        for one in found
    ]
    head = ["| policy | estimate | largest in | measured | off by |", "|---|---:|---|---:|---:|"]
    return "\n".join([*head, *rows])
