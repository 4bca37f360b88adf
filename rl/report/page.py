"""One run folder -> the page: what is read and computed here, page.html writes down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.evaluation.parts import PartsEvaluation, load_all_parts, tables
from rl.evaluation.results import GRADED, OVERALL, Evaluation, load_all, with_graded
from rl.evaluation.tables import TableRow, rows
from rl.report.curves import charts, parts_charts
from rl.report.decoder import decoder_turns
from rl.report.groups import shown_groups
from rl.report.pictures import pairs
from rl.report.template import template_environment
from rl.report.workers import shown_workers
from rl.run_folder.claim import CONFIG_FILE
from rl.run_folder.environment import ENVIRONMENT_FILE, Session
from rl.run_folder.records import Row, read_json, read_metrics, write_atomically
from rl.tracking.clock import duration
from rl.types import UserError

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class RecordedRun:
    """What a run folder says."""

    folder: Path
    metrics: list[Row]
    evaluations: list[Evaluation]
    parts: list[PartsEvaluation]
    config: str | None
    sessions: list[Session]


def read_run(folder: Path) -> RecordedRun:
    """Raises UserError if the folder is missing or holds neither metrics nor evaluations."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a run, such as runs/geneval")
    metrics, evaluations = read_metrics(folder), load_all(folder)
    if not metrics and not evaluations:
        raise UserError(f"{folder} holds no metrics.jsonl and no evaluation: it is no run folder, or has not started")
    config, environment = folder / CONFIG_FILE, folder / ENVIRONMENT_FILE
    return RecordedRun(
        folder,
        metrics,
        evaluations,
        load_all_parts(folder),
        config.read_text(encoding="utf-8") if config.exists() else None,
        read_json(environment)["sessions"] if environment.exists() else [],
    )


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` into the run folder and returns its path."""
    run = read_run(folder)
    path = folder / REPORT_FILE
    write_atomically(path, page(run))
    return path


def page(run: RecordedRun) -> str:
    """Self-contained: style, script and pictures travel inside."""
    before, after = (run.evaluations[0], run.evaluations[-1]) if run.evaluations else (None, None)
    evaluations = with_graded(run.evaluations)
    several = before is not None and after is not None and before.step != after.step
    found = rows(evaluations[0], evaluations[-1]) if several else []
    compared = [row for row in found if not row.reward.endswith(GRADED)]
    groups = shown_groups(run.folder)
    template = template_environment().get_template("page.html")
    return template.render(
        run=run,
        name=run.folder.resolve().name,
        summary=" · ".join(summary(run)),
        before=before,
        after=evaluations[-1] if evaluations else None,
        rows=found,
        strict=compared,
        weakest=_weakest(compared),
        apart=tables(run.parts[-1]) if run.parts else [],
        apart_charts=parts_charts(run.parts) if len(run.parts) > 1 else [],
        alarms=[alarm for row in run.metrics for alarm in row.alarms],
        pairs=pairs(run.folder, before, after) if before and after and len(run.evaluations) > 1 else [],
        charts=charts(run.metrics, evaluations),
        stages=stages(run.metrics),
        workers=shown_workers(run.folder),
        groups=groups,
        group_steps=[(step, f"step {step}") for step in dict.fromkeys(one.step for one in groups)],
        turns=len(decoder_turns(run.metrics)),
    )


def summary(run: RecordedRun) -> list[str]:
    """Steps, pictures, time, machine."""
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
    return parts


def _total(row: Row) -> float:
    return row.seconds.get("total", sum(row.seconds.values()))


def _weakest(found: Sequence[TableRow]) -> TableRow | None:
    """The task that gained least, where there are several to compare."""
    means = [(row.change.difference.mean, row) for row in found if row.task != OVERALL and row.change is not None]
    return min(means, key=lambda pair: pair[0])[1] if len(means) > 1 else None


def stages(metrics: Sequence[Row]) -> list[tuple[str, float, float]]:
    """(stage, mean seconds per step, share); the first step is left out where there are more, because it compiles."""
    counted = metrics[1:] if len(metrics) > 1 else metrics
    totals: dict[str, float] = {}
    for row in counted:
        for name, value in row.seconds.items():
            if name != "total":
                totals[name] = totals.get(name, 0.0) + value
    whole = sum(totals.values())
    return [(name, value / len(counted), value / whole) for name, value in totals.items()] if whole > 0 else []
