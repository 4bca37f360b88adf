"""Before/after: the rows of a table, and the table for the console."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from rl.evaluation.parts import PartsEvaluation, tables
from rl.evaluation.results import OVERALL, Change, Evaluation, TaskResult, compare, with_graded
from rl.evaluation.statistics import Estimate

STYLES = {"up": "green", "down": "red", "": ""}


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
    changes = compare(before, after)
    return [
        TableRow(reward, task, old, result, changes.get(reward, {}).get(task))
        for reward, tasks in after.results.items()
        for task, result in tasks.items()
        if (old := before.results.get(reward, {}).get(task)) is not None
    ]


def table(before: Evaluation, after: Evaluation) -> Table:
    """For the console: bold overall, green and red where the interval of the difference excludes 0."""
    found = rows(*with_graded([before, after]))
    shown = Table(title=f"Held-out, step {before.step} → {after.step} (95 % intervals)", title_justify="left")
    several = len({row.reward for row in found}) > 1
    for name in (["reward"] if several else []) + ["task"]:
        shown.add_column(name)
    for name in ("n", "before", "after", "difference", "failed"):
        shown.add_column(name, justify="right")
    for row in found:
        if row.task == OVERALL:
            shown.add_section()
        cells: list[str | Text] = [Text(row.reward)] if several else []
        cells += [Text(row.task.replace("_", " ")), str(row.after.n), estimate(row.before.estimate)]
        failed = row.before.failed + row.after.failed
        difference = (
            Text(signed(row.change.difference), style=STYLES[row.change.direction]) if row.change else Text("–")
        )
        shown.add_row(
            *cells, estimate(row.after.estimate), difference, str(failed) if failed else "",
            style="bold" if row.task == OVERALL else None, end_section=row.task == OVERALL,
        )  # fmt: skip
    return shown


def parts_tables(found: PartsEvaluation) -> list[Table]:
    """For the console: what each network has brought, a table per reward."""
    shown = []
    for one in tables(found):
        table = Table(title=f"{one.reward}, parts at step {found.step} (95 % intervals)", title_justify="left")
        table.add_column("")
        for name in one.columns:
            table.add_column(name, justify="right")
        for name, cells in one.lines:
            table.add_row(name, *(estimate(cell) for cell in cells))
        shown.append(table)
    return shown


def estimate(value: Estimate | None) -> str:
    """``0.742 [0.65, 0.82]``, without an interval where there is none."""
    if value is None:
        return "–"
    return f"{value.mean:.3f}" + (f" [{value.low:.2f}, {value.high:.2f}]" if value.interval else "")


def signed(value: Estimate) -> str:
    return f"{value.mean:+.3f}" + (f" [{value.low:+.3f}, {value.high:+.3f}]" if value.interval else "")
