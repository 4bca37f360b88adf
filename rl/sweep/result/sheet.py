"""The regression sheet: every task, monitor and guard of every arm, what fell, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rl.config.sections.guards import WINDOW
from rl.evaluation.results import GRADED, OVERALL
from rl.evaluation.seeds import PairedDifference, difference_over_seeds, holm
from rl.run_folder.records import Row
from rl.sweep.result.compare import Versus, against, since_start
from rl.sweep.result.gather import MadeArm, MadeRun, monitors_of, rewards_of
from rl.tracking.contract import GUARD_PREFIX
from rl.tracking.guards.watches import WATCHES

Kind = Literal["task", "monitor", "guard", "health"]
Verdict = Literal["worse", "better", "changed", "same"]
START = "start"
"""What an arm is compared with beside the baseline: itself before training."""
_BAD = {
    "rise": 1, "relative rise": 1, "maximum": 1, "drop": -1, "relative drop": -1, "minimum": -1, "change": 0
}  # fmt: skip
_SHARE = 5  # of a run's steps, the first and the last fifth are compared


@dataclass(frozen=True)
class SheetRow:
    """One figure of one arm against the baseline, or against its own ``start``."""

    kind: Kind
    name: str
    arm: str
    against: str
    theirs: float
    ours: float
    bad: int
    """The direction that is worse: 1 up, -1 down, 0 either."""
    versus: Versus

    @property
    def verdict(self) -> Verdict:
        mean = self.versus.difference.estimate.mean
        if abs(mean) < 1e-12:
            return "same"
        if self.bad == 0:
            return "changed"
        return "worse" if mean * self.bad > 0 else "better"

    @property
    def sure(self) -> str:
        """In words."""
        if self.verdict == "same":
            return ""
        if self.versus.difference.p is None:
            return "one seed cannot tell"
        if self.versus.significant:
            return "significant"
        return "significant alone" if self.versus.suggestive else "may be chance"


def sheet(arms: Sequence[MadeArm], baseline: str) -> list[SheetRow]:
    """Against the baseline, then against each arm's start; what is worse and sure first. Holm's correction is over all
    rows of either kind."""
    made = [arm for arm in arms if arm.runs]
    base = next((arm for arm in made if arm.name == baseline), None)
    between = [row for arm in made if base is not None and arm is not base for row in _between(arm, base, made)]
    since = [row for arm in made for row in _since_start(arm, made)]
    return [*_ranked(_corrected(between)), *_ranked(_corrected(since))]


def _between(arm: MadeArm, base: MadeArm, arms: Sequence[MadeArm]) -> Iterator[SheetRow]:
    theirs = {run.seed: run for run in base.runs}
    pairs = [(run, theirs[run.seed]) for run in arm.runs if run.seed in theirs]
    for reward in _strict(arms):
        for task, found in _tasks(against(arm, base, reward)):
            ours, other = (_score([pair[side] for pair in pairs], reward, task) for side in (0, 1))
            yield _held_out(arm, base.name, reward, task, other, ours, found, arms)
    for kind, name, bad in _logged(arms):
        values = [(_last(run.rows, name), _last(other.rows, name)) for run, other in pairs]
        if row := _metric(kind, name, arm, base.name, values, bad):
            yield row


def _since_start(arm: MadeArm, arms: Sequence[MadeArm]) -> Iterator[SheetRow]:
    for reward in _strict(arms):
        for task, found in _tasks(since_start(arm.runs, reward)):
            old = _score(arm.runs, reward, task, before=True)
            yield _held_out(arm, START, reward, task, old, _score(arm.runs, reward, task), found, arms)
    for kind, name, bad in _logged(arms):
        values = [(_last(run.rows, name), _first(run.rows, name)) for run in arm.runs]
        row = None if kind == "health" else _metric(kind, name, arm, START, values, bad)  # which moves in any training
        if row:
            yield row


def _tasks(found: Mapping[str, PairedDifference]) -> Iterator[tuple[str, PairedDifference]]:
    """Without the overall score, which is their mean and stands above the sheet."""
    return ((task, one) for task, one in found.items() if task != OVERALL)


def _strict(arms: Sequence[MadeArm]) -> list[str]:
    return [reward for reward in rewards_of(arms) if not reward.endswith(GRADED)]


def _held_out(
    arm: MadeArm,
    other: str,
    reward: str,
    task: str,
    theirs: float,
    ours: float,
    found: PairedDifference,
    arms: Sequence[MadeArm],
) -> SheetRow:
    kind: Kind = "monitor" if reward in monitors_of(arms) else "task"
    return SheetRow(kind, f"{reward}, {task.replace('_', ' ')}", arm.name, other, theirs, ours, -1, Versus(found))


def _score(runs: Sequence[MadeRun], reward: str, task: str, *, before: bool = False) -> float:
    found = [(run.before if before else run.after).results.get(reward, {}).get(task) for run in runs]
    means = [one.estimate.mean for one in found if one is not None and one.estimate is not None]
    return sum(means) / len(means) if means else float("nan")


def _logged(arms: Sequence[MadeArm]) -> Iterator[tuple[Kind, str, int]]:
    """Guards, monitors in training, and what is watched of the training itself."""
    names = dict.fromkeys(name for arm in arms for run in arm.runs for row in run.rows for name in row.metrics)
    watched = {watch.metric: _BAD[watch.kind] for watch in WATCHES}
    for name in names:
        if name.startswith(GUARD_PREFIX):
            yield "guard", name, watched.get(name, 0)
        elif name.removeprefix("reward/") in monitors_of(arms):
            yield "monitor", name, -1
        elif name in watched:
            yield "health", name, watched[name]


def _metric(
    kind: Kind, name: str, arm: MadeArm, other: str, values: Sequence[tuple[float | None, float | None]], bad: int
) -> SheetRow | None:
    both = [(ours, theirs) for ours, theirs in values if ours is not None and theirs is not None]
    if not both:
        return None
    found = difference_over_seeds([ours - theirs for ours, theirs in both])
    ours, theirs = (sum(pair[side] for pair in both) / len(both) for side in (0, 1))
    return SheetRow(kind, _told(name), arm.name, other, theirs, ours, bad, Versus(found))


def _told(name: str) -> str:
    return name.removeprefix(GUARD_PREFIX).removeprefix("reward/").replace("_", " ")


def _last(rows: Sequence[Row], name: str) -> float | None:
    return _mean(rows, name, lambda count: slice(-max(1, count // _SHARE), None))


def _first(rows: Sequence[Row], name: str) -> float | None:
    return _mean(rows, name, lambda count: slice(0, max(1, min(WINDOW, count // _SHARE))))


def _mean(rows: Sequence[Row], name: str, part: Callable[[int], slice]) -> float | None:
    values = [value for row in rows if (value := row.metrics.get(name)) is not None]
    chosen = values[part(len(values))]
    return sum(chosen) / len(chosen) if chosen else None


def _corrected(rows: Sequence[SheetRow]) -> list[SheetRow]:
    tested = [(place, row.versus.difference.p) for place, row in enumerate(rows)]
    known = [(place, p) for place, p in tested if p is not None]
    found = list(rows)
    for (place, _), value in zip(known, holm([p for _, p in known]), strict=True):
        found[place] = replace(rows[place], versus=replace(rows[place].versus, holm=value))
    return found


def _ranked(rows: Sequence[SheetRow]) -> list[SheetRow]:
    order = {"worse": 0, "changed": 1, "better": 2, "same": 3}

    def rank(row: SheetRow) -> tuple[object, ...]:
        p = row.versus.difference.p
        return (order[row.verdict], not row.versus.significant, not row.versus.suggestive, 2.0 if p is None else p)

    return sorted(rows, key=rank)
