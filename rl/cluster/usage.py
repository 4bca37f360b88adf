"""How busy everybody is: a line of ``RUN/cluster.jsonl`` and a few numbers for each step, and a sentence at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from rl.cluster.board import FinishedStep
from rl.config.sections.cluster_rules import counted
from rl.run_folder.usage import TRAINER, TRAINER_RESTARTS, CallSpan, UsageRow, append_usage
from rl.scheduler.events import Learn
from rl.tracking.contract import WORKER_NAMES


class ClusterUsage:
    """Seconds that workers worked, of those that went by. Times in the file are those of the clock on the wall, so that
    what a resumed run adds can be told from what was before."""

    def __init__(
        self,
        folder: Path,
        sizes: Mapping[str, int],
        worked: Callable[[], Mapping[str, float]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``sizes``: workers by role; ``worked``: seconds that those of a role have had something to do, until now."""
        self._folder, self._sizes, self._worked, self._now = folder, sizes, worked, now
        self._on_the_wall = time.time() - now()
        self._began = self._last = now()
        self._worked_before = self._worked_at_first = dict(worked())
        self._published: dict[int, float] = {}
        self._row: UsageRow | None = None
        self._waited, self._steps = 0.0, 0

    def ordered(
        self, order: Learn, done: FinishedStep, *, waited: float, queued: Mapping[str, int], counts: Mapping[str, int]
    ) -> UsageRow:
        """The step is about to be learnt; ``waited``: seconds that the trainer had nothing to do before."""
        now, worked = self._now(), dict(self._worked())
        row = UsageRow(
            step=order.step,
            staleness=order.step - order.version,
            publish_lag=self._lag(order.version, done),
            seconds=round(now - self._last, 3),
            waited=round(waited, 3),
            busy={role: round(worked[role] - self._worked_before[role], 3) for role in self._sizes},
            workers=dict(self._sizes),
            queued=dict(queued),
            counts=dict(counts),
            calls=list(done.calls),
        )
        self._last, self._worked_before, self._row = now, worked, row
        self._steps, self._waited = self._steps + 1, self._waited + waited
        return row

    def published(self, counts: Mapping[str, int] = MappingProxyType({})) -> None:
        """What was learnt from the step that was ordered last is there for everybody. ``counts``: of what has happened
        to those who have learnt it."""
        if (row := self._row) is None:
            return
        now, self._row = self._now(), None
        self._published[row.step + 1] = now
        calls = [*row.calls, CallSpan(TRAINER, row.step, self._last, now)]
        told = {**row.counts, **counts}
        append_usage(self._folder, replace(row, counts=told, calls=[self._timed(call) for call in calls]))

    def told(self, counts: Mapping[str, int]) -> str:
        """``cluster: busy samplers 31%, painters 88%, trainer 52% of 210 s and 60 steps; ...``"""
        wall, worked = max(self._now() - self._began, 1e-9), self._worked()
        shares = [
            f"{WORKER_NAMES[role]} {(worked[role] - self._worked_at_first[role]) / (count * wall):.0%}"
            for role, count in self._sizes.items()
            if count
        ]
        shares.append(f"{TRAINER} {max(0.0, 1 - self._waited / wall):.0%}")
        lost, second = counts.get("deaths", 0), counts.get("second leases", 0)
        again = counts.get(TRAINER_RESTARTS, 0)
        trainer = f", the trainer started again {counted(again, 'time')}" if again else ""
        return (
            f"cluster: busy {', '.join(shares)} of {wall:.0f} s and {counted(self._steps, 'step')}; "
            f"{counted(lost, 'worker')} lost, {counted(second, 'call')} given to a second one{trainer}"
        )

    def _lag(self, version: int, done: FinishedStep) -> float | None:
        self._published = {one: at for one, at in self._published.items() if one >= version}
        at = self._published.get(version)
        if at is None or not done.calls:
            return None
        return round(max(0.0, min(call.start for call in done.calls) - at), 3)

    def _timed(self, call: CallSpan) -> CallSpan:
        start, end = (round(at + self._on_the_wall, 3) for at in (call.start, call.end))
        return replace(call, start=start, end=end)
