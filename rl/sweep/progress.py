"""What a running member of a sweep is doing, told from what it has written."""

from __future__ import annotations

from rl.run_folder.records import Row, read_metrics
from rl.sweep.plan import SweepRun
from rl.tracking.clock import duration

_PACE_STEPS = 10


def progress(run: SweepRun, seconds: float) -> str:
    """``step 12/100, score 0.614, about 3 min 05 s to go``; without a step yet, how long it has been starting."""
    rows = read_metrics(run.folder)
    if not rows:
        return f"starting for {duration(seconds)} ({run.log})"
    done = rows[-1].step + 1
    score = rows[-1].metrics.get("score")
    told = f"step {done}/{run.steps}" + (f", score {score:.3f}" if score is not None else "")
    recent = [_seconds(row) for row in rows[-_PACE_STEPS:]]
    return f"{told}, about {duration(sum(recent) / len(recent) * (run.steps - done))} to go"


def _seconds(row: Row) -> float:
    return row.seconds.get("total", sum(row.seconds.values()))
