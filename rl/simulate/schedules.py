"""Thousands of small runs, each with faults of every kind at rates of its own, and what the scheduler made of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from rich.table import Table as RichTable

from rl.scheduler.work import WorkPlan
from rl.simulate.audit import Audit
from rl.simulate.bounds import WorkerSplit
from rl.simulate.faults import Fate, Faults
from rl.simulate.simulation import Simulation
from rl.simulate.workload import Workload
from rl.types import RunFailure

_MOST_STEPS, _MOST_GROUPS, _MOST_STALENESS = 6, 6, 4


@dataclass
class Tally:
    """Of all schedules together."""

    schedules: int = 0
    finished: int = 0
    stops: list[str] = field(default_factory=list)
    """Why the others ended before their last step."""
    groups: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    failed: int = 0
    struck: Counter[Fate] = field(default_factory=Counter)
    recovery: dict[Fate, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def holds(self) -> bool:
        """Nothing is lost, doubled, or made with other weights than it should be."""
        return not (self.lost or self.doubled or self.wrong)

    def add(self, plan: WorkPlan, audit: Audit, stopped: str | None) -> None:
        self.schedules += 1
        if stopped is None:
            self.finished += 1
            self.groups += plan.steps * plan.groups
        else:
            self.stops.append(stopped)
        self.lost, self.doubled = self.lost + audit.lost, self.doubled + audit.doubled
        self.wrong, self.failed = self.wrong + audit.wrong, self.failed + audit.failed
        self.struck += audit.struck
        for fate, seconds in audit.recovery.items():
            self.recovery[fate] += seconds

    def table(self) -> RichTable:
        table = RichTable(
            title="faults, and seconds until what they struck was made all the same", title_justify="left"
        )
        table.add_column("fault")
        for name in ("times", "results", "median, s", "worst, s"):
            table.add_column(name, justify="right")
        for fate, times in sorted(self.struck.items()):
            seconds = self.recovery.get(fate, [])
            ends = (f"{median(seconds):.3g}", f"{max(seconds):.4g}") if seconds else ("-", "-")
            table.add_row(fate.value, f"{times:,}", f"{len(seconds):,}", *ends)
        return table

    def sentences(self) -> list[str]:
        told = [
            f"{self.schedules:,} schedules with {self.struck.total():,} faults: {self.lost} groups lost, "
            f"{self.doubled} doubled, {self.wrong} made with other weights than the plan says.",
            f"{self.finished:,} came to their last step, with all of {self.groups:,} groups.",
        ]
        if self.stops:
            told.append(f"{len(self.stops):,} ended before it, each with a reason; the first: {self.stops[0]}")
        told.append("Seconds are simulated: deadlines, restarts and the prices of calls, not the time of this command.")
        return told

    def as_json(self) -> dict[str, object]:
        kinds = {
            fate.value: {
                "times": times,
                "results": len(seconds := self.recovery.get(fate, [])),
                "median_seconds": median(seconds) if seconds else None,
                "worst_seconds": max(seconds, default=None),
            }
            for fate, times in sorted(self.struck.items())
        }
        counts = {name: getattr(self, name) for name in ("schedules", "finished", "groups", "failed")}
        return {**counts, "lost": self.lost, "doubled": self.doubled, "wrong": self.wrong, "faults": kinds}


def try_schedules(work: Workload, schedules: int, seed: int) -> Tally:
    """Sizes, staleness, blocks and rates are drawn anew for each."""
    tally = Tally()
    for number in range(schedules):
        simulation = drawn(work, np.random.default_rng([seed, number]))
        stopped = None
        try:
            simulation.run()
        except RunFailure as error:
            stopped = str(error)
        tally.add(simulation.plan, simulation.audit, stopped)
    return tally


def drawn(work: Workload, rng: np.random.Generator) -> Simulation:
    """One small run of such calls."""
    small = replace(work, groups=int(rng.integers(1, min(_MOST_GROUPS, work.groups) + 1)))
    samplers, painters, trainers, scorers = (int(rng.integers(1, most + 1)) for most in (3, 3, 3, 2))
    split = WorkerSplit(samplers, painters, trainers, scorers)
    rates = {
        name: float(rng.uniform(0, most))
        for name, most in (
            ("slow", 0.1),
            ("died", 0.1),
            ("silent", 0.03),
            ("refused", 0.05),
            ("other_weights", 0.03),
            ("repeated", 0.3),
            ("unpublished", 0.05),
        )
    }
    faults = Faults(
        hours_between=small.update(1) / float(rng.uniform(0.001, 0.1)) / 3600,
        restart=float(rng.uniform(5, 240)),
        slow_factor=float(rng.uniform(3, 60)),
        checkpoint_every=int(rng.integers(1, 4)),
        **rates,
    )
    return Simulation(
        small,
        split,
        int(rng.integers(1, _MOST_STEPS + 1)),
        int(rng.integers(0, _MOST_STALENESS + 1)),
        faults=faults,
        seed=int(rng.integers(2**32)),
        blocks=bool(rng.integers(2)),
    )
