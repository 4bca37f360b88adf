"""The result on a console, as Markdown for a README, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from rl.evaluation.results import OVERALL
from rl.run_folder.resume import Difference, listed
from rl.sweep.member import Member
from rl.sweep.result.compare import Spread, SweepRow
from rl.sweep.result.gather import MadeArm
from rl.sweep.result.sheet import SheetRow
from rl.sweep.result.words import Answer, p_text, scored

COMPARED = (
    "Differences to the baseline are paired (same prompt, same seeds), seeds and prompts both random; p: two-sided, "
    "after Holm over what is asked at once."
)
FOOTNOTE = (
    "Mean over seeds [95 % bootstrap interval over seeds] (lowest .. highest seed); held-out prompts, same seeds. "
    + COMPARED
)


@dataclass(frozen=True)
class SweepResult:
    """All that a sweep has found. ``changed``: arm -> keys that differ from the baseline's configuration."""

    title: str
    baseline: str
    arms: Sequence[MadeArm]
    members: Sequence[Member]
    rows: Sequence[SweepRow]
    sheet: Sequence[SheetRow]
    answers: Sequence[Answer]
    warnings: Sequence[str]
    changed: dict[str, list[Difference]]


def console_table(result: SweepResult) -> Table:
    """Overall scores alone; green and red where the corrected p-value says so."""
    found = Table(title=f"{result.title}: held out, mean over seeds [95 %]", title_justify="left")
    for name in ("arm", "reward", "seeds", "before", "after", f"against {result.baseline}", "p (Holm)"):
        found.add_column(name, justify="left" if name in ("arm", "reward") else "right")
    for row in result.rows:
        if row.task == OVERALL:
            style = ""
            if row.versus and row.versus.significant:
                style = "green" if row.versus.difference.estimate.mean > 0 else "red"
            cells = [row.arm, row.reward, str(row.seeds), scored(row.before.estimate), scored(row.after.estimate)]
            found.add_row(*map(Text, cells), *(Text(cell, style=style) for cell in _versus(row)))
    return found


def markdown(result: SweepResult) -> str:
    """For a README: the answers, ``mean [interval] (lowest .. highest)`` of every task, warnings and failures."""
    lines = [f"**{answer.question}** {' '.join(answer.sentences)}  " for answer in result.answers]
    lines += [f"Warning: {warning}  " for warning in result.warnings]
    several = len(result.arms) > 1
    head = ["arm"] * several + ["reward", "task", "seeds", "before", "after", "difference"]
    head += [f"against {result.baseline}", "p (Holm)"] * several
    lines += ["", _line(head), "|" + "---|" * len(head)]
    for row in result.rows:
        cells = [f"`{row.arm}`"] * several + [row.reward, row.task.replace("_", " "), str(row.seeds)]
        cells += [_spread(row.before), _spread(row.after), _spread(row.gain, signed=True)]
        cells += _versus(row) if several else []
        lines.append(_line([f"**{cell}**" if row.task == OVERALL and cell else cell for cell in cells]))
    lines += ["", FOOTNOTE]
    for one in result.members:
        if one.state == "failed":
            lines += ["", f"**{one.run.folder.name} failed** ({one.reason}); `{one.run.log}` ends:"]
            lines += ["```", one.tail(), "```"]
    return "\n".join(lines) + "\n"


def as_json(result: SweepResult) -> str:
    found = {
        "title": result.title,
        "baseline": result.baseline,
        "answers": {one.question: list(one.sentences) for one in result.answers},
        "warnings": list(result.warnings),
        "rows": [asdict(row) for row in result.rows],
        "sheet": [asdict(row) | {"verdict": row.verdict, "sure": row.sure} for row in result.sheet],
        "changed": {arm: [str(one) for one in found] for arm, found in result.changed.items()},
        "costs": {
            arm.name: {"seconds": arm.seconds, "pictures": arm.pictures, "steps": arm.steps}
            for arm in result.arms
            if arm.runs
        },
        "runs": [
            {
                "arm": one.run.arm,
                "seed": one.run.seed,
                "state": one.state,
                "reason": one.reason or None,
                "folder": str(one.source),
            }
            for one in result.members
        ],
    }
    return json.dumps(found, indent=1, allow_nan=False, default=str) + "\n"


def changed_words(found: Sequence[Difference]) -> str:
    return listed(found) if found else "nothing"


def _versus(row: SweepRow) -> list[str]:
    if row.versus is None:
        return ["", ""]
    estimate = row.versus.difference.estimate
    told = f"{estimate.mean:+.3f}"
    if estimate.interval:
        told += f" [{estimate.low:+.3f}, {estimate.high:+.3f}]"
    return [told, "" if row.versus.holm is None else p_text(row.versus.holm).removeprefix("= ")]


def _spread(value: Spread, *, signed: bool = False) -> str:
    form = "{:+.3f}" if signed else "{:.3f}"
    estimate, text = value.estimate, form.format(value.estimate.mean)
    extremes = [form.format(value.lowest), form.format(value.highest)]
    if estimate.low is not None and estimate.high is not None:
        interval = [form.format(estimate.low), form.format(estimate.high)]
        text += f" [{', '.join(interval)}]" if len(set(interval)) > 1 else ""
        extremes = [] if interval == extremes else extremes
    return f"{text} ({' .. '.join(extremes)})" if len(set(extremes)) > 1 else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
