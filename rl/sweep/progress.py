"""What a running member of a sweep is doing, told from what it has written, and how long all of it still takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.run_folder.records import read_metrics
from rl.sweep.member import Member
from rl.tracking.clock import duration, total_seconds

_PACE_STEPS = 10


@dataclass(frozen=True)
class RunPace:
    """How far a run is; ``left``: seconds, None before its first step."""

    done: int
    score: float | None
    held_out: float | None
    left: float | None


def pace(folder: Path, steps: int) -> RunPace:
    rows = read_metrics(folder)
    if not rows:
        return RunPace(0, None, None, None)
    done, recent = rows[-1].step + 1, [total_seconds(row.seconds) for row in rows[-_PACE_STEPS:]]
    held_out = [
        value
        for row in rows
        for name, value in row.metrics.items()
        if name.startswith("eval/") and name.endswith("/overall") and value is not None
    ]
    left = sum(recent) / len(recent) * max(0, steps - done)
    return RunPace(done, rows[-1].metrics.get("score"), held_out[-1] if held_out else None, left)


def progress(member: Member, now: float) -> str:
    """``step 12/100, score 0.614, about 3 min 05 s to go``; without a step yet, how long it has been starting."""
    found = pace(member.run.folder, member.run.steps)
    if found.left is None:
        return f"starting for {duration(now - member.started)} ({member.run.log})"
    score = f", score {found.score:.3f}" if found.score is not None else ""
    return f"step {found.done}/{member.run.steps}{score}, about {duration(found.left)} to go"


def to_go(members: Sequence[Member], parallel: int, now: float | None = None) -> float | None:
    """Seconds until the last run ends, if those that wait take as long as the others; None as long as nobody knows."""
    now = time.monotonic() if now is None else now
    running = [one for one in members if one.state == "running"]
    known = {id(one): found for one in running if (found := pace(one.run.folder, one.run.steps).left) is not None}
    whole = [one.took for one in members if one.state == "done" and one.took is not None]
    whole += [now - one.started + known[id(one)] for one in running if id(one) in known]
    if not whole:
        return None
    usual = sum(whole) / len(whole)
    left = [known.get(id(one), max(0.0, usual - (now - one.started))) for one in running]
    waiting = sum(one.state == "waiting" for one in members)
    return max([(sum(left) + waiting * usual) / parallel, *left])
