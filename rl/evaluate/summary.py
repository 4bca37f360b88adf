"""What an evaluation says: a row per task, every policy's mean, every other policy's paired difference to the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from rl.evaluation.results import OVERALL, Change, Evaluation, TaskResult, compare, with_graded
from rl.evaluation.tables import STYLES, estimate, signed

INTERVALS = (
    "95 % intervals over prompts: Wilson where a verdict is pass or fail, else Student's t; overall is the mean of the "
    "tasks. Differences are paired (same prompt, same seed): bootstrap over prompts; p: sign-flip test, not corrected "
    "for several tasks."
)


@dataclass(frozen=True)
class SummaryRow:
    """One task of one reward: a result for each policy that has one, a change for each but the first."""

    reward: str
    task: str
    results: Mapping[str, TaskResult]
    changes: Mapping[str, Change]


def summarise_all(found: Mapping[str, Evaluation]) -> list[SummaryRow]:
    """Reward by reward, in the first policy's order, ``overall`` last."""
    found = dict(zip(found, with_graded(list(found.values())), strict=True))
    first, *others = found
    changes = {name: _changes(found[first], found[name]) for name in others}
    tasks = dict.fromkeys(
        (reward, task) for one in found.values() for reward, tasks in one.results.items() for task in tasks
    )
    return [
        SummaryRow(
            reward,
            task,
            {name: one.results[reward][task] for name, one in found.items() if task in one.results.get(reward, {})},
            {name: by[reward][task] for name, by in changes.items() if task in by.get(reward, {})},
        )
        for reward, task in _overall_last(tasks)
    ]


def console_table(rows: Sequence[SummaryRow], names: Sequence[str]) -> Table:
    """Green and red where the interval of a difference excludes 0."""
    shown = Table()
    for heading, place in zip(_headings(rows, names), _places(rows, names), strict=True):
        shown.add_column(Text(heading), justify=place)
    for row in rows:
        last = row.task == OVERALL
        if last:
            shown.add_section()
        cells = [Text(cell) for cell in _cells(row, names, several=_several(rows))]
        for index, name in enumerate(names[1:]):
            if name in row.changes:
                cells[len(cells) - _behind(names) + 2 * index].stylize(STYLES[row.changes[name].direction])
        shown.add_row(*cells, style="bold" if last else None, end_section=last)
    return shown


def markdown_table(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The same for a README."""
    headings = _headings(rows, names)
    lines = [_line(headings), "|" + "---|" * len(headings)]
    for row in rows:
        cells = _cells(row, names, several=_several(rows))
        lines.append(_line([f"**{cell}**" if cell and row.task == OVERALL else cell for cell in cells]))
    return "\n".join([*lines, "", INTERVALS]) + "\n"


def as_json(rows: Sequence[SummaryRow]) -> list[dict[str, object]]:
    return [asdict(row) for row in rows]


def failures(found: Mapping[str, Evaluation]) -> list[str]:
    """A line for each policy and reward that has some, with how many and why; they are in no mean."""
    lines = []
    for name, evaluation in found.items():
        for reward in evaluation.results:
            reasons = Counter(one.failure for one in evaluation.outcomes if one.reward == reward and one.failure)
            if reasons:
                told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
                others = f"; and {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
                asked = sum(one.reward == reward for one in evaluation.outcomes)
                lines.append(f"{name}: {reward} failed on {sum(reasons.values())} of {asked} pictures: {told}{others}")
    return lines


def failed_fraction(found: Mapping[str, Evaluation]) -> float:
    """Of the policy and reward that failed most."""
    shares = [
        result.failed / (result.n + result.failed)
        for evaluation in found.values()
        for tasks in evaluation.results.values()
        if (result := tasks[OVERALL]).n + result.failed
    ]
    return max(shares, default=0.0)


def _changes(first: Evaluation, other: Evaluation) -> Mapping[str, Mapping[str, Change]]:
    scored = [
        {(one.reward, one.prompt_id) for one in side.outcomes if one.value is not None} for side in (first, other)
    ]
    return compare(first, other) if scored[0] & scored[1] else {}


def _overall_last(tasks: Mapping[tuple[str, str], object]) -> Iterator[tuple[str, str]]:
    for reward in dict.fromkeys(reward for reward, _ in tasks):
        own = [task for name, task in tasks if name == reward and task != OVERALL]
        yield from ((reward, task) for task in [*own, OVERALL])


def _several(rows: Sequence[SummaryRow]) -> bool:
    return len({row.reward for row in rows}) > 1


def _behind(names: Sequence[str]) -> int:
    """Columns from the first difference to the last: two for each other policy, and the failures."""
    return 2 * (len(names) - 1) + 1


def _headings(rows: Sequence[SummaryRow], names: Sequence[str]) -> list[str]:
    differences = [part for name in names[1:] for part in (f"{name} - {names[0]}", "p")]
    return [*["reward"] * _several(rows), "task", "n", *names, *differences, "failed"]


def _places(rows: Sequence[SummaryRow], names: Sequence[str]) -> list[Literal["left", "right"]]:
    words = 1 + _several(rows)
    return ["left" if index < words else "right" for index in range(len(_headings(rows, names)))]


def _cells(row: SummaryRow, names: Sequence[str], *, several: bool) -> list[str]:
    counts = {result.n for result in row.results.values()}
    cells = [*[row.reward] * several, row.task.replace("_", " "), " / ".join(map(str, sorted(counts)))]
    cells += [estimate(row.results[name].estimate) if name in row.results else "–" for name in names]
    for name in names[1:]:
        change = row.changes.get(name)
        cells += [signed(change.difference), _p(change.p)] if change else ["–", "–"]
    failed = sum(result.failed for result in row.results.values())
    return [*cells, str(failed) if failed else ""]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
