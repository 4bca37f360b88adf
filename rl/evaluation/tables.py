"""Before/after tables for the console, for Markdown and for plain text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from rl.evaluation.evaluate import OVERALL, Change, Evaluation, TaskResult, compare
from rl.evaluation.statistics import Estimate


@dataclass(frozen=True)
class TableRow:
    """One task of one reward; ``change`` is paired (same prompts, same seeds), None if a side has no scores."""

    reward: str
    task: str
    before: TaskResult
    after: TaskResult
    change: Change | None


def rows(before: Evaluation, after: Evaluation) -> list[TableRow]:
    """Every reward's tasks, then its ``overall``; tasks that only one side knows are left out."""
    return list(_rows(before, after))


def _rows(before: Evaluation, after: Evaluation) -> Iterator[TableRow]:
    changes = compare(before, after)
    for reward, tasks in after.results.items():
        for task, result in tasks.items():
            old = before.results.get(reward, {}).get(task)
            if old is not None:
                yield TableRow(reward, task, old, result, changes.get(reward, {}).get(task))


def table(before: Evaluation, after: Evaluation) -> Table:
    """For the console: bold overall, green and red where the interval of the difference excludes 0."""
    found = rows(before, after)
    shown = Table(title=f"Held-out, step {before.step} → {after.step} (95 % intervals)", title_justify="left")
    several = len({row.reward for row in found}) > 1
    for name in (["reward"] if several else []) + ["task"]:
        shown.add_column(name)
    for name in ("n", "before", "after", "difference", "failed"):
        shown.add_column(name, justify="right")
    for row in found:
        if row.task == OVERALL:
            shown.add_section()
        cells = [row.reward] if several else []
        cells += [row.task.replace("_", " "), str(row.after.n), estimate(row.before.estimate)]
        failed = row.before.failed + row.after.failed
        difference = Text(signed(row.change.difference), style=_style(row.change)) if row.change else Text("–")
        shown.add_row(
            *cells, estimate(row.after.estimate), difference, str(failed) if failed else "",
            style="bold" if row.task == OVERALL else None, end_section=row.task == OVERALL,
        )  # fmt: skip
    return shown


def plain(before: Evaluation, after: Evaluation) -> str:
    """The same as Markdown, for logs and READMEs."""
    lines = ["| reward | task | n | before | after | difference | failed |", "|---|---|--:|---|---|---|--:|"]
    for row in rows(before, after):
        difference = signed(row.change.difference) if row.change else "–"
        lines.append(
            f"| {row.reward} | {row.task} | {row.after.n} | {estimate(row.before.estimate)} | "
            f"{estimate(row.after.estimate)} | {difference} | {row.before.failed + row.after.failed} |"
        )
    return "\n".join(lines)


def estimate(value: Estimate | None) -> str:
    """``.742 [.65, .82]``, without an interval where there is none."""
    if value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.low:.2f}, {value.high:.2f}]"


def signed(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:+.3f}"
    return f"{value.mean:+.3f} [{value.low:+.2f}, {value.high:+.2f}]"


def _style(change: Change) -> str:
    low, high = change.difference.low, change.difference.high
    if low is not None and low > 0:
        return "green"
    return "red" if high is not None and high < 0 else ""
