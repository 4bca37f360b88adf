"""The table of a sweep: per setting and task, the mean over seeds with its spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rl.evaluation.results import OVERALL, Evaluation, load_all, with_graded
from rl.evaluation.statistics import Estimate, t_interval
from rl.evaluation.tables import estimate, signed
from rl.sweep.plan import FinishedRun, SweepRun

_FOOTNOTE = (
    "Mean over seeds [95 % Student t interval; of a share of passed samples cut at 0 and 1, its difference at -1 and 1]"
    " (lowest .. highest seed); held-out prompts, same seeds."
)


@dataclass(frozen=True)
class Spread:
    """Over seeds: mean with t interval, which is cut where a share of passed samples cannot be, and the extremes."""

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
    graded: set[tuple[str, str]] = set()
    for run in runs:
        evaluations = with_graded(load_all(run.folder))
        graded |= {(run.setting, reward) for one in evaluations for reward in _graded(one)}
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
            before=_spread([before for before, _ in pairs], least=0.0, share=key[:2] not in graded),
            after=_spread([after for _, after in pairs], least=0.0, share=key[:2] not in graded),
            difference=_spread([after - before for before, after in pairs], least=-1.0, share=key[:2] not in graded),
        )
        for key, pairs in found.items()
    ]


def _graded(evaluation: Evaluation) -> set[str]:
    """The rewards with a score other than passed or not: their means are no shares."""
    return {one.reward for one in evaluation.outcomes if one.value not in (0.0, 1.0, None)}


def _spread(values: Sequence[float], *, least: float, share: bool) -> Spread:
    found = t_interval(values)
    if share and found.interval:
        low, high = found.interval
        found = Estimate(found.mean, max(least, low), min(1.0, high))
    return Spread(found, min(values), max(values))


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
    lines += ["", _FOOTNOTE]
    for failed in failures:
        lines += ["", f"**{failed.run.folder.name} failed with exit code {failed.code}** (`{failed.run.log}`):"]
        lines += ["```", failed.tail.strip(), "```"]
    return "\n".join(lines) + "\n"


def _cell(spread: Spread, written: Callable[[Estimate], str]) -> str:
    text = written(spread.estimate)
    return text if spread.lowest == spread.highest else f"{text} ({spread.lowest:.3f} .. {spread.highest:.3f})"
