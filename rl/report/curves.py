"""Which curves a page shows: rewards and evaluations, then the health of the training, then the guards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rl.evaluation.results import OVERALL, Evaluation
from rl.report.chart import Chart, line_chart
from rl.run_folder.records import Row

Alarms = Mapping[str, Sequence[tuple[float, str]]]
_DECODER = (  # title, metrics of a decoder that learns
    ("Variance of the reward inside a prompt", ("var/tokens", "var/noise", "var/interaction")),
    ("Decoder's share of it", ("var/decoder_share",)),
    ("Decoder: reward", ("decoder/score",)),
    ("Decoder: distance to its base", ("decoder/velocity_mse",)),
    ("Decoder: mean square of the latents", ("decoder/x0_mean_square",)),
    ("Decoder: KL to the policy that painted", ("decoder/kl_old",)),
    ("Decoder: ratio, mean", ("decoder/ratio_mean",)),
    ("Decoder: gradient norm", ("decoder/grad_norm",)),
)
_HEALTH = (  # title, metric; a chart whose metric was never logged is left out
    ("KL to the reference (nats per token)", "kl"),
    ("Entropy (nats per token)", "entropy"),
    ("Sampler–trainer mismatch (nats)", "mismatch"),
    ("Loss", "loss"),
    ("Gradient norm", "grad_norm"),
    ("Share of groups without signal", "zero_std_fraction"),
    ("Share of failed rewards", "failed_fraction"),
)


def charts(rows: Sequence[Row], evaluations: Sequence[Evaluation]) -> list[Chart]:
    """Every chart that has something to show; the alarms of a metric stand upright in its chart."""
    alarms: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        for alarm in row.alarms:
            alarms.setdefault(alarm.metric, []).append((row.step + 1, alarm.sentence))
    logged = list(dict.fromkeys(name for row in rows for name in row.metrics))
    rewards = [name for name in logged if name.startswith("reward/")]
    training = _metrics_chart("Training reward", rows, _without_twin(rows, ["score", *rewards]), alarms)
    held_out = [_evaluation_chart(reward, evaluations) for reward in (evaluations[-1].results if evaluations else ())]
    health = [_metrics_chart(title, rows, [name], alarms) for title, name in _HEALTH]
    decoder = [_metrics_chart(title, rows, names, alarms) for title, names in _DECODER]
    guards = [
        _metrics_chart("Guard: " + name.removeprefix("guard/").replace("_", " "), rows, [name], alarms)
        for name in logged
        if name.startswith("guard/")
    ]
    first = [training] if training.curves else []
    return [*first, *held_out, *(chart for chart in (*health, *decoder, *guards) if chart.curves)]


def _without_twin(rows: Sequence[Row], names: Sequence[str]) -> Sequence[str]:
    """With one reward of weight 1 the score is that reward: one line says it."""
    if len(names) == 2 and all(row.metrics.get(names[0]) == row.metrics.get(names[1]) for row in rows):
        return names[1:]
    return names


def _metrics_chart(title: str, rows: Sequence[Row], names: Sequence[str], alarms: Alarms) -> Chart:
    series = {
        name.removeprefix("reward/").removeprefix("var/"): [
            (row.step + 1.0, value) for row in rows if (value := row.metrics.get(name)) is not None
        ]
        for name in names
    }
    return line_chart(title, series, smooth=True, alarms=[one for name in names for one in alarms.get(name, ())])


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
