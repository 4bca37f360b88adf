"""One run folder -> the page: what is read, and its parts in the order in which they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rl.evaluation.evaluate import OVERALL, Evaluation, load_all
from rl.evaluation.tables import TableRow, rows
from rl.report import html
from rl.report.style import SCRIPT, STYLE
from rl.run_folder.environment import ENVIRONMENT_FILE
from rl.run_folder.records import Row, read_json, read_metrics, write_atomically
from rl.tracking.console import duration
from rl.types import UserError

CONFIG_FILE, REPORT_FILE = "config.yaml", "report.html"


@dataclass(frozen=True)
class Run:
    """What a run folder says."""

    folder: Path
    metrics: list[Row]
    evaluations: list[Evaluation]
    config: str | None
    sessions: list[dict[str, Any]]


def read_run(folder: Path) -> Run:
    """Raises UserError if the folder is missing or holds neither metrics nor evaluations."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a run, such as runs/geneval")
    metrics, evaluations = read_metrics(folder), load_all(folder)
    if not metrics and not evaluations:
        raise UserError(f"{folder} holds no metrics.jsonl and no evaluation: it is no run folder, or has not started")
    config, environment = folder / CONFIG_FILE, folder / ENVIRONMENT_FILE
    return Run(
        folder,
        metrics,
        evaluations,
        config.read_text(encoding="utf-8") if config.exists() else None,
        read_json(environment)["sessions"] if environment.exists() else [],
    )


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` into the run folder and returns its path."""
    run = read_run(folder)
    path = folder / REPORT_FILE
    write_atomically(path, page(run))
    return path


def page(run: Run) -> str:
    name = escape(run.folder.resolve().name)
    sections = [
        f"<h1>{name}</h1><p class=sub>{escape(_summary(run))}</p>",
        *_headline(run),
        f"<h2>Guards</h2>{html.alarms(run.metrics)}",
        *_pictures(run),
        f"<h2>Curves</h2>{html.charts(run.metrics, run.evaluations)}",
        f"<h2>Time per stage</h2>{html.stage_times(run.metrics)}",
        *_provenance(run),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style></head><body><main>{''.join(sections)}"
        f"<footer>Made by python -m rl.report from the run folder alone.</footer></main>"
        f'<div id="tip"></div><script>{SCRIPT}</script></body></html>\n'
    )


def _summary(run: Run) -> str:
    parts = []
    if run.metrics:
        steps = run.metrics[-1].step + 1
        parts.append(f"{steps} step{'' if steps == 1 else 's'}")
        pictures = sum(int(row.metrics.get("images") or 0) for row in run.metrics)
        parts += [f"{pictures:,} training pictures"] if pictures else []
        parts.append(f"{duration(sum(_total(row) for row in run.metrics))} of training")
    if run.sessions:
        first = run.sessions[0]
        parts += [first["cpu"] if not first["accelerators"] else first["accelerators"][0], first["started"][:10]]
        parts += [f"resumed {len(run.sessions) - 1}×"] if len(run.sessions) > 1 else []
    return " · ".join(parts)


def _total(row: Row) -> float:
    return row.seconds.get("total", sum(row.seconds.values()))


def _headline(run: Run) -> list[str]:
    if not run.evaluations:
        return ["<p class=empty>No evaluation yet.</p>"]
    before, after = run.evaluations[0], run.evaluations[-1]
    if before.step == after.step:
        return [f"<h2>Held-out evaluation at step {after.step}</h2>{html.single_table(after)}"]
    found = rows(before, after)
    parts = [f'<div class="cards">{_cards(found)}</div>']
    for reward in dict.fromkeys(row.reward for row in found):
        parts.append(f"<h2>Held-out {escape(reward)}: step {before.step} → {after.step}</h2>")
        parts.append(html.evaluation_table([row for row in found if row.reward == reward]))
    parts.append(
        "<p class=note>Strict scores on the prompts of data.eval, same seeds before and after. Intervals are "
        "95 %: Wilson for each score, paired bootstrap over prompts for the difference. Grey: before, blue: after. "
        "Overall is the mean of the tasks; failed rewards are counted apart, never as 0.</p>"
    )
    return parts


def _cards(found: Sequence[TableRow]) -> str:
    cards = [html.change_card(row) for row in found if row.task == OVERALL]
    changes = [row.change for row in found if row.task != OVERALL and row.change is not None]
    gained, lost = sum(change.gained for change in changes), sum(change.lost for change in changes)
    note = '<div class="note">pictures, same prompt and seed</div>'
    cards.append(html.card("better / worse", f'<span class="up">{gained}</span> <small>/ {lost}</small>', note))
    tasks = [row for row in found if row.task != OVERALL and row.change is not None]
    if len(tasks) > 1:
        worst = min(tasks, key=lambda row: row.change.difference.mean if row.change else 0.0)
        if worst.change is not None:
            name = f"weakest change: {worst.task.replace('_', ' ')}"
            cards.append(html.card(name, f"{worst.change.difference.mean:+.3f}", html.interval_note(worst.change)))
    return "".join(cards)


def _pictures(run: Run) -> list[str]:
    if len(run.evaluations) < 2 or not run.evaluations[0].tiles:
        return []
    before, after = run.evaluations[0], run.evaluations[-1]
    note = "<p class=note>The first prompts of each task, not chosen. Green frame: newly passed; red: newly failed.</p>"
    return [f"<h2>Same prompts, same seeds, before and after</h2>{html.pairs(run.folder, before, after)}{note}"]


def _provenance(run: Run) -> list[str]:
    parts = ["<h2>How it was made</h2>"]
    if run.config is not None:
        parts.append(f"<details><summary>Config</summary><pre>{escape(run.config)}</pre></details>")
    for number, session in enumerate(run.sessions):
        title = "Environment" if number == 0 else f"Environment of resume {number}"
        parts.append(f"<details><summary>{title}</summary>{html.environment_table(session)}</details>")
    return parts if len(parts) > 1 else []
