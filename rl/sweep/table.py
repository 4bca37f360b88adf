"""The table of a sweep: per setting and task, the mean over seeds with its spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rl.evaluation.results import OVERALL, load_all
from rl.evaluation.statistics import Estimate, t_interval
from rl.evaluation.tables import estimate, signed
from rl.sweep.plan import FinishedRun, SweepRun


@dataclass(frozen=True)
class Spread:
    """Over seeds: mean with t interval, and the extremes."""

    estimate: Estimate
    lowest: float
    highest: float


@dataclass(frozen=True)
class SweepRow:
    setting: str
    reward: str
    task: str
    seeds: int
    before: Spread
    after: Spread
    difference: Spread


def summarise(runs: Sequence[SweepRun]) -> list[SweepRow]:
    """Per setting, reward and task (and overall), over the seeds whose first and last evaluation have it."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for run in runs:
        evaluations = load_all(run.folder)
        before, after = evaluations[0].results, evaluations[-1].results
        for reward, tasks in after.items():
            for task, result in tasks.items():
                old = before.get(reward, {}).get(task)
                if result.estimate is not None and old is not None and old.estimate is not None:
                    pair = (old.estimate.mean, result.estimate.mean)
                    found.setdefault((run.setting, reward, task), []).append(pair)
    return [
        SweepRow(
            *key,
            seeds=len(pairs),
            before=_spread([before for before, _ in pairs]),
            after=_spread([after for _, after in pairs]),
            difference=_spread([after - before for before, after in pairs]),
        )
        for key, pairs in found.items()
    ]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(t_interval(values), min(values), max(values))


def markdown(rows: Sequence[SweepRow], failures: Sequence[FinishedRun]) -> str:
    """The table for a README: ``mean [95 % t interval] (lowest .. highest)``; then what failed, and how."""
    several = len({row.setting for row in rows}) > 1
    head = ["setting"] * several + ["reward", "task", "seeds", "before", "after", "difference"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"`{row.setting}`"] * several + [row.reward, row.task, str(row.seeds)]
        cells += [_cell(row.before, estimate), _cell(row.after, estimate), _cell(row.difference, signed)]
        bold = row.task == OVERALL
        lines.append("| " + " | ".join(f"**{cell}**" if bold else cell for cell in cells) + " |")
    lines += ["", "Mean over seeds [95 % Student t interval] (lowest .. highest seed); held-out prompts, same seeds."]
    for failed in failures:
        lines += ["", f"**{failed.run.folder.name} failed with exit code {failed.code}** (`{failed.run.log}`):"]
        lines += ["```", failed.tail.strip(), "```"]
    return "\n".join(lines) + "\n"


def _cell(spread: Spread, written: Callable[[Estimate], str]) -> str:
    text = written(spread.estimate)
    return text if spread.lowest == spread.highest else f"{text} ({spread.lowest:.3f} .. {spread.highest:.3f})"
