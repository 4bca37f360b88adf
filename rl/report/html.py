"""The parts of the report page: each function turns one piece of a run's record into HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from rl.evaluation.evaluate import OVERALL, Change, Evaluation, Outcome, Tile, grid_path, mark
from rl.evaluation.statistics import Estimate
from rl.evaluation.tables import TableRow
from rl.report.svg import line_chart, number
from rl.run_folder.records import Row

_MAX_PICTURE = 384  # pixels a side; larger ones are shrunk and embedded as JPEG
_CHARTS = (  # title, metrics; a chart whose metrics were never logged is left out
    ("KL to the reference (nats per token)", ("kl",)),
    ("Entropy (nats per token)", ("entropy",)),
    ("Sampler–trainer mismatch (nats)", ("mismatch",)),
    ("Loss", ("loss",)),
    ("Gradient norm", ("grad_norm",)),
    ("Share of groups without signal", ("zero_std_fraction",)),
    ("Share of failed rewards", ("failed_fraction",)),
)


def card(name: str, big: str, note: str = "") -> str:
    return f'<div class="card"><div class="name">{escape(name)}</div><div class="big">{big}</div>{note}</div>'


def change_card(row: TableRow) -> str:
    """A reward's overall score, before and after, with the paired difference."""
    before, after = row.before.estimate, row.after.estimate
    if before is None or after is None:
        return card(row.reward, "–", '<div class="note">nothing could be scored</div>')
    note = ""
    if row.change is not None:
        style = direction(row.change)
        note = f'<div class="{style}">{row.change.difference.mean:+.3f}</div>{interval_note(row.change)}'
    return card(f"{row.reward}, held out", f"<small>{before.mean:.3f} →</small> {after.mean:.3f}", note)


def interval_note(change: Change) -> str:
    low, high = change.difference.low, change.difference.high
    return "" if low is None or high is None else f'<div class="note">95 % interval {low:+.2f} to {high:+.2f}</div>'


def direction(change: Change) -> str:
    """``up`` or ``down`` only where the interval of the difference excludes 0."""
    low, high = change.difference.low, change.difference.high
    if low is not None and low > 0:
        return "up"
    return "down" if high is not None and high < 0 else ""


def evaluation_table(rows: Sequence[TableRow]) -> str:
    """One line per task: before, after, difference, and both intervals drawn on a 0-1 scale."""
    head = "<th>task</th><th class=num>n</th><th>before</th><th>after</th><th>difference</th><th></th>"
    failed = any(row.before.failed or row.after.failed for row in rows)
    lines = []
    for row in rows:
        cells = [f"<td>{escape(row.task.replace('_', ' '))}</td><td class=num>{row.after.n}</td>"]
        cells += [f"<td>{_estimate(row.before.estimate)}</td><td>{_estimate(row.after.estimate)}</td>"]
        if row.change is None:
            cells.append("<td>–</td>")
        else:
            title = f"{row.change.n} pairs: {row.change.gained} better, {row.change.lost} worse"
            cells.append(f'<td class="{direction(row.change)}" title="{title}">{_signed(row.change.difference)}</td>')
        cells.append(f"<td>{_range(row.before.estimate, row.after.estimate)}</td>")
        if failed:
            cells.append(f"<td class=num>{row.before.failed + row.after.failed}</td>")
        lines.append(f"<tr{' class=total' if row.task == OVERALL else ''}>{''.join(cells)}</tr>")
    head += "<th class=num>failed</th>" if failed else ""
    return f'<div class="card scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def single_table(evaluation: Evaluation) -> str:
    """When there is only one evaluation."""
    lines = [
        f"<tr{' class=total' if task == OVERALL else ''}>"
        f"<td>{escape(reward)}</td><td>{escape(task.replace('_', ' '))}</td>"
        f"<td class=num>{result.n}</td><td>{_estimate(result.estimate)}</td><td class=num>{result.failed}</td></tr>"
        for reward, tasks in evaluation.results.items()
        for task, result in tasks.items()
    ]
    head = "<tr><th>reward</th><th>task</th><th class=num>n</th><th>score</th><th class=num>failed</th></tr>"
    return f'<div class="card scroll"><table>{head}{"".join(lines)}</table></div>'


def charts(rows: Sequence[Row], evaluations: Sequence[Evaluation]) -> str:
    """Reward and evaluation first, then the health of the training, then the guards; alarms stand upright in each."""
    marks: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        for alarm in row.alarms:
            marks.setdefault(alarm["metric"], []).append((row.step, alarm["sentence"]))
    rewards = [name for name in _logged(rows) if name.startswith("reward/")]
    found = [_chart("Training reward", rows, _without_twin(rows, ["score", *rewards]), marks)]
    found += [_evaluation_chart(reward, evaluations) for reward in (evaluations[-1].results if evaluations else ())]
    found += [_chart(title, rows, names, marks) for title, names in _CHARTS]
    guards = [name for name in _logged(rows) if name.startswith("guard/")]
    found += [_chart("Guard: " + name[6:].replace("_", " "), rows, [name], marks) for name in guards]
    return f'<div class="charts">{"".join(found)}</div>'


def pairs(run_folder: Path, before: Evaluation, after: Evaluation) -> str:
    """The fixed prompts' pictures side by side; a tile that both evaluations do not share is left out."""
    later = {(tile.prompt_id, tile.seed): tile for tile in after.tiles}
    couples = [
        (tile, later[tile.prompt_id, tile.seed]) for tile in before.tiles if (tile.prompt_id, tile.seed) in later
    ]
    if not couples:
        return '<p class="empty">the two evaluations have no pictures in common</p>'
    with Image.open(grid_path(run_folder, before.step)) as old, Image.open(grid_path(run_folder, after.step)) as new:
        cells = [_pair(first, last, _figure(old, before, first) + _figure(new, after, last)) for first, last in couples]
    return f'<div class="pairs">{"".join(cells)}</div>'


def stage_times(rows: Sequence[Row]) -> str:
    """Mean seconds per stage and step; the first step is left out where there are more, because it compiles."""
    counted = rows[1:] if len(rows) > 1 else rows
    totals: dict[str, float] = {}
    for row in counted:
        for name, value in row.seconds.items():
            if name != "total":
                totals[name] = totals.get(name, 0.0) + value
    whole = sum(totals.values())
    if whole <= 0:
        return '<p class="empty">no times logged</p>'
    bars, lines = [], []
    for index, (name, value) in enumerate(totals.items()):
        color, share = f"var(--c{index % 8})", value / whole
        bars.append(f'<i style="width:{100 * share:.2f}%;background:{color}" title="{escape(name)} {share:.0%}"></i>')
        lines.append(
            f'<tr><td><span class="legend" style="margin:0"><span><i style="background:{color}"></i></span>'
            f'<span style="color:var(--ink);font-size:15px">{escape(name)}</span></span></td>'
            f"<td class=num>{value / len(counted):.3f} s</td><td class=num>{share:.1%}</td></tr>"
        )
    head = "<tr><th>stage</th><th class=num>seconds per step</th><th class=num>share</th></tr>"
    return f'<div class="card"><div class="bar">{"".join(bars)}</div><table>{head}{"".join(lines)}</table></div>'


def alarms(rows: Sequence[Row]) -> str:
    sentences = [escape(alarm["sentence"]) for row in rows for alarm in row.alarms]
    if not sentences:
        return '<p class="quiet">All guards stayed quiet.</p>'
    return f'<ul class="alarms">{"".join(f"<li>{sentence}</li>" for sentence in sentences)}</ul>'


def environment_table(session: Mapping[str, Any]) -> str:
    flat = {name: value for name, value in session.items() if name != "versions" and value not in (None, [])}
    flat["versions"] = ", ".join(f"{name} {version}" for name, version in session.get("versions", {}).items())
    lines = (
        f'<tr><td>{escape(name)}</td><td style="white-space:normal">{escape(_plain(value))}</td></tr>'
        for name, value in flat.items()
    )
    return f"<table>{''.join(lines)}</table>"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _logged(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _without_twin(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """With one reward of weight 1 the score is that reward: one line says it."""
    if len(names) == 2 and all(row.metrics.get(names[0]) == row.metrics.get(names[1]) for row in rows):
        return [names[1]]
    return list(names)


def _chart(
    title: str, rows: Sequence[Row], names: Sequence[str], marks: Mapping[str, Sequence[tuple[float, str]]]
) -> str:
    series = {}
    for name in names:
        points = [(float(row.step), value) for row in rows if (value := row.metrics.get(name)) is not None]
        if points:
            series[name.removeprefix("reward/")] = points
    if not series:
        return ""
    upright = [one for name in names for one in marks.get(name, ())]
    svg = line_chart(series, smooth=True, marks=upright)
    return f'<div class="card"><h3>{escape(title)}</h3>{svg}</div>'


def _evaluation_chart(reward: str, evaluations: Sequence[Evaluation]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    band: dict[str, list[tuple[float, float, float]]] = {}
    for evaluation in evaluations:
        tasks = evaluation.results.get(reward, {})
        for task in sorted(tasks, key=lambda name: name != OVERALL):  # overall first: it gets the first colour
            found, name = tasks[task].estimate, task.replace("_", " ")
            if found is None:
                continue
            series.setdefault(name, []).append((evaluation.step, found.mean))
            if task == OVERALL and found.low is not None and found.high is not None:
                band.setdefault(name, []).append((evaluation.step, found.low, found.high))
    title = f"Held-out {reward}"
    return f'<div class="card"><h3>{escape(title)}</h3>{line_chart(series, band=band)}</div>'


def _pair(first: Tile, last: Tile, figures: str) -> str:
    style = {(False, True): " gained", (True, False): " lost"}.get((_passed(first), _passed(last)), "")
    return (
        f'<div class="card pair{style}"><div class="two">{figures}</div>'
        f'<p>{escape(first.text)}</p><span class="task">{escape(first.task.replace("_", " "))}</span></div>'
    )


def _passed(tile: Tile) -> bool:
    return bool(tile.marks) and all(value == 1.0 for value in tile.marks.values())


def _figure(sheet: Image.Image, evaluation: Evaluation, tile: Tile) -> str:
    caption = f"step {evaluation.step}"
    badges = "".join(
        f'<span class="badge {word if word in ("pass", "fail") else "other"}" title="{escape(reward)}">{word}</span>'
        for reward, value in tile.marks.items()
        for word in [mark(value)]
    )
    picture = sheet.crop(tile.box)
    small = ' class="small"' if picture.width <= 2 * 64 else ""
    return (
        f'<figure><img{small} alt="{escape(tile.text)}, {caption}" src="{_data_uri(picture)}">'
        f'<figcaption>{caption} <span class="marks">{badges}</span>{_notes(evaluation.of(tile))}</figcaption></figure>'
    )


def _notes(outcomes: Sequence[Outcome]) -> str:
    """What the rewards said in words: the texts among their details, or why they failed; numbers as a tooltip."""
    notes = []
    for one in outcomes:
        words = [f"{key}: {value}" for key, value in one.details.items() if isinstance(value, str) and value]
        numbers = [f"{key} {value:g}" for key, value in one.details.items() if isinstance(value, (int, float))]
        text = f"failed: {one.failure}" if one.failure else "; ".join(words)
        if text or numbers:
            tip = escape(f"{one.reward}: {', '.join(numbers)}")
            notes.append(f'<div class="note" title="{tip}">{escape(text)}</div>')
    return "".join(notes)


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    if max(picture.size) > _MAX_PICTURE:
        picture.thumbnail((_MAX_PICTURE, _MAX_PICTURE), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
        kind = "jpeg"
    else:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _estimate(value: Estimate | None) -> str:
    if value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.mean:.3f}"
    return f'{value.mean:.3f}<span class="ci">{value.low:.2f} – {value.high:.2f}</span>'


def _signed(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:+.3f}"
    return f'{value.mean:+.3f} <span class="ci">{value.low:+.2f} to {value.high:+.2f}</span>'


def _range(before: Estimate | None, after: Estimate | None) -> str:
    """Both means as dots with their intervals, on a scale from 0 to 1; nothing for scores outside it."""
    parts = []
    for style, value in (("was", before), ("now", after)):
        if value is None or value.low is None or value.high is None or not 0 <= value.low <= value.high <= 1:
            return ""
        width = 100 * (value.high - value.low)
        parts.append(f'<b class="ci {style}" style="left:{100 * value.low:.1f}%;width:{width:.1f}%"></b>')
        parts.append(f'<b class="dot {style}" style="left:{100 * value.mean:.1f}%" title="{number(value.mean)}"></b>')
    return f'<div class="range"><b class="track"></b>{"".join(parts)}</div>'
