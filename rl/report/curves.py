"""Which curves a page shows: rewards and evaluations, then the health of the training, then the guards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rl.evaluation.parts import PartsEvaluation, tables
from rl.evaluation.results import OVERALL, Evaluation
from rl.report.chart import Chart, line_chart
from rl.report.decoder import Lines, decoder_figures, decoder_turns
from rl.run_folder.records import Row
from rl.tracking.contract import AGE, ANSWER, NUMERICS, ZERO_STD

_MISMATCH = {NUMERICS: "with the same weights", AGE: "by their age"}
Alarms = Mapping[str, Sequence[tuple[float, str]]]
_OF_KINDS = ("kl", "entropy", "mismatch")
"""Of pictures and answers apart, in a step that holds both."""
_HEALTH = (  # title, metric; a chart whose metric was never logged is left out
    ("KL to the reference (nats per token)", "kl"),
    ("Entropy (nats per token)", "entropy"),
    ("Sampler–trainer mismatch (nats)", "mismatch"),
    ("Loss", "loss"),
    ("Cross-entropy of the pictures' tokens (nats)", "ce_image"),
    ("Cross-entropy of the prompts' words (nats)", "ce_text"),
    ("Cross-entropy of answers in words (nats)", "ce_answer"),
    ("Error of the flow", "flow"),
    ("Redrawn from codes: error of the pixels", "reconstruction"),
    ("Redrawn from features: error of the pixels", "reading"),
    ("Distance to the codes", "quantiser"),
    ("Examples that could not be used", "bad_rows"),
    ("Gradient norm", "grad_norm"),
    ("Share of groups without signal", "zero_std_fraction"),
    ("Share of failed rewards", "failed_fraction"),
    ("Answers: tokens, the end included", "answer/length"),
    ("Answers without an end (share)", "answer/unended"),
)


def charts(rows: Sequence[Row], evaluations: Sequence[Evaluation]) -> list[Chart]:
    """Every chart that has something to show; the alarms of a metric stand upright in its chart, and where two networks
    take turns the decoder's steps are shaded."""
    alarms: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        for alarm in row.alarms:
            alarms.setdefault(alarm.metric, []).append((row.step + 1, alarm.sentence))
    logged = list(dict.fromkeys(name for row in rows for name in row.metrics))
    rewards = [name for name in logged if name.startswith("reward/")]
    told = {name: name.removeprefix("reward/") for name in _without_twin(rows, ["score", *rewards])}
    training = _metrics_chart("Training reward", rows, told, alarms)
    tasks = [_metrics_chart(title, rows, lines, alarms) for title, lines in _by_task(logged)]
    held_out = [_evaluation_chart(reward, evaluations) for reward in (evaluations[-1].results if evaluations else ())]
    health = [_metrics_chart(title, rows, lines, alarms) for title, lines in _health(logged)]
    decoder = [_metrics_chart(title, rows, lines, alarms) for title, lines in decoder_figures(logged)]
    guards = [
        _metrics_chart("Guard: " + name.removeprefix("guard/").replace("_", " "), rows, {name: name}, alarms)
        for name in logged
        if name.startswith("guard/")
    ]
    first = [training] if training.curves else []
    return [*first, *tasks, *held_out, *(chart for chart in (*health, *decoder, *guards) if chart.curves)]


def _health(logged: Sequence[str]) -> list[tuple[str, Lines]]:
    """The mismatch in its two parts, where they can be told apart."""
    parts = {name: told for name, told in _MISMATCH.items() if name in logged}
    found: list[tuple[str, Lines]] = []
    for title, name in _HEALTH:
        beside = f"{ANSWER}/{name}"
        lines = {name: "pictures", beside: "answers"} if beside in logged and name in _OF_KINDS else {name: name}
        found.append((title, lines | (parts if name == "mismatch" else {})))
    return found


def _by_task(logged: Sequence[str]) -> list[tuple[str, Lines]]:
    """Where a step holds several of draw, edit and answer."""
    titles = {"score": "Training reward by task", ZERO_STD: "Groups without signal by task"}
    found: list[tuple[str, Lines]] = [
        (title, {one: one.removeprefix(f"{name}/") for one in logged if one.startswith(f"{name}/")})
        for name, title in titles.items()
    ]
    return [(title, lines) for title, lines in found if lines]


def _without_twin(rows: Sequence[Row], names: Sequence[str]) -> Sequence[str]:
    """With one reward of weight 1 the score is that reward: one line says it."""
    if len(names) == 2 and all(row.metrics.get(names[0]) == row.metrics.get(names[1]) for row in rows):
        return names[1:]
    return names


def parts_charts(found: Sequence[PartsEvaluation]) -> list[Chart]:
    """Of each reward, what the networks apart come to at each evaluation."""
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for evaluation in found:
        for table in tables(evaluation):
            cells = series.setdefault(table.reward, {})
            for line, estimates in table.lines:
                for column, cell in zip(table.columns, estimates, strict=True):
                    if cell is not None:
                        cells.setdefault(f"{column}, {line}", []).append((evaluation.step, cell.mean))
    return [line_chart(f"{reward}, the networks apart", cells) for reward, cells in series.items()]


def _metrics_chart(title: str, rows: Sequence[Row], lines: Lines, alarms: Alarms) -> Chart:
    series = {
        told: [(row.step + 1.0, value) for row in rows if (value := row.metrics.get(name)) is not None]
        for name, told in lines.items()
    }
    return line_chart(
        title,
        series,
        smooth=True,
        alarms=[one for name in lines for one in alarms.get(name, ())],
        turns=[(step - 0.5, step + 0.5) for step in decoder_turns(rows)],
    )


def _evaluation_chart(reward: str, evaluations: Sequence[Evaluation]) -> Chart:
    series: dict[str, list[tuple[float, float]]] = {}
    overall: list[tuple[float, float, float]] = []
    for evaluation in evaluations:
        tasks = evaluation.results.get(reward, {})
        for task in sorted(tasks, key=lambda name: name != OVERALL):  # overall first: it gets the first colour
            found = tasks[task].estimate
            if found is None:
                continue
            series.setdefault(task.replace("_", " "), []).append((evaluation.step, found.mean))
            if task == OVERALL and found.interval is not None:
                overall.append((evaluation.step, *found.interval))
    return line_chart(f"Held-out {reward}", series, bands={OVERALL: overall})
