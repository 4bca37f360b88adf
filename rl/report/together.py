"""Several runs on one page: what each scores on the same prompts, their curves, pictures and times side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rl.config.load import load
from rl.evaluation.results import OVERALL, Change, Evaluation, TaskResult, Tile, compare, grid_path, with_graded
from rl.report.chart import Chart, line_chart
from rl.report.page import RecordedRun, read_run, stages, summary
from rl.report.pictures import Figure, figure
from rl.report.template import template_environment
from rl.run_folder.claim import CONFIG_FILE, written_by_a_run
from rl.run_folder.records import write_atomically
from rl.run_folder.resume import Difference, differences
from rl.tracking.contract import GUARD_PREFIX
from rl.types import UserError

_HEALTH = ("kl", "entropy", "mismatch", "loss", "grad_norm", "zero_std_fraction")
_MOST_PROMPTS, _MOST_PICTURES = 24, 96  # of a page that is to stay under 5 MB


@dataclass(frozen=True)
class TogetherRow:
    """One task: every run's last score, and every other run's paired difference to the first."""

    reward: str
    task: str
    results: Sequence[TaskResult | None]
    changes: Sequence[Change | None]


@dataclass(frozen=True)
class SamePrompt:
    """One held-out prompt and seed, as every run paints it in the end."""

    text: str
    task: str
    figures: Sequence[Figure]


def write_together(folders: Sequence[Path], path: Path) -> Path:
    """Raises: UserError for a folder that is no run, and for runs that cannot be told apart."""
    runs = {name: read_run(folder) for name, folder in _names(folders).items()}
    write_atomically(path, together(runs))
    return path


def together(runs: Mapping[str, RecordedRun]) -> str:
    last = {name: with_graded(run.evaluations)[-1] for name, run in runs.items() if run.evaluations}
    first = next(iter(runs))
    changed = {name: _changed(runs[first], run) for name, run in runs.items() if name != first}
    return (
        template_environment()
        .get_template("together.html")
        .render(
            names=list(runs),
            title=", ".join(runs),
            summaries={name: " · ".join(summary(run)) for name, run in runs.items()},
            scored=list(last),
            rows=_rows(list(last.values())) if last else [],
            charts=_charts(runs),
            prompts=_same_prompts([(runs[name].folder, runs[name].evaluations[-1]) for name in last]),
            times={name: {stage: seconds for stage, seconds, _ in stages(run.metrics)} for name, run in runs.items()},
            changed={name: found for name, found in changed.items() if found},
            alarms=[
                (name, alarm.sentence) for name, run in runs.items() for row in run.metrics for alarm in row.alarms
            ],
        )
    )


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """As much of each path as tells them apart."""
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UserError("one run is named twice: a page of several runs needs different ones")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, folders, strict=True))
    raise UserError("these runs cannot be told apart by their folders")


def _rows(found: Sequence[Evaluation]) -> list[TogetherRow]:
    keys = dict.fromkeys((reward, task) for one in found for reward, tasks in one.results.items() for task in tasks)
    changes = [None, *(_compared(found[0], other) for other in found[1:])]
    rewards = list(dict.fromkeys(reward for reward, _ in keys))
    ordered = sorted(keys, key=lambda key: (rewards.index(key[0]), key[1] == OVERALL))
    return [
        TogetherRow(
            reward,
            task,
            [one.results.get(reward, {}).get(task) for one in found],
            [None if one is None else one.get(reward, {}).get(task) for one in changes],
        )
        for reward, task in ordered
    ]


def _compared(first: Evaluation, other: Evaluation) -> Mapping[str, Mapping[str, Change]] | None:
    scored = [
        {(one.reward, one.prompt_id, one.seed) for one in side.outcomes if one.value is not None}
        for side in (first, other)
    ]
    return compare(first, other) if scored[0] & scored[1] else None


def _charts(runs: Mapping[str, RecordedRun]) -> list[Chart]:
    rewards = dict.fromkeys(reward for run in runs.values() for one in run.evaluations for reward in one.results)
    found = []
    for reward in rewards:
        found.append(line_chart(f"Held-out {reward}", {name: _overall(run, reward) for name, run in runs.items()}))
    logged = dict.fromkeys(name for run in runs.values() for row in run.metrics for name in row.metrics)
    shown = ["score", *_HEALTH, *(name for name in logged if name.startswith(GUARD_PREFIX))]
    found += [
        line_chart(_title(metric), {name: _logged(run, metric) for name, run in runs.items()}, smooth=True)
        for metric in shown
    ]
    return [chart for chart in found if chart.curves]


def _title(metric: str) -> str:
    name = metric.removeprefix(GUARD_PREFIX).replace("_", " ")
    return "Training reward" if metric == "score" else f"Guard: {name}" if metric.startswith(GUARD_PREFIX) else name


def _overall(run: RecordedRun, reward: str) -> list[tuple[float, float]]:
    found = [(one.step, one.results.get(reward, {}).get(OVERALL)) for one in run.evaluations]
    return [(step, one.estimate.mean) for step, one in found if one is not None and one.estimate is not None]


def _logged(run: RecordedRun, metric: str) -> list[tuple[float, float]]:
    return [(row.step + 1.0, value) for row in run.metrics if (value := row.metrics.get(metric)) is not None]


def _same_prompts(found: Sequence[tuple[Path, Evaluation]]) -> list[SamePrompt]:
    """The prompts that all runs have a picture of."""
    if len(found) < 2:
        return []
    tiles = [{(tile.prompt_id, tile.seed): tile for tile in one.tiles} for _, one in found]
    shared = [key for key in tiles[0] if all(key in other for other in tiles)]
    most = min(_MOST_PROMPTS, _MOST_PICTURES // len(found))
    chosen = [shared[place * len(shared) // most] for place in range(most)] if len(shared) > most else shared
    if not chosen:
        return []
    columns = [
        _figures(folder, one, [by[key] for key in chosen]) for (folder, one), by in zip(found, tiles, strict=True)
    ]
    return [
        SamePrompt(tiles[0][key].text, tiles[0][key].task, [column[place] for column in columns])
        for place, key in enumerate(chosen)
    ]


def _figures(folder: Path, evaluation: Evaluation, tiles: Sequence[Tile]) -> list[Figure]:
    with Image.open(grid_path(folder, evaluation.step)) as sheet:
        return [figure(sheet, evaluation, tile) for tile in tiles]


def _changed(first: RecordedRun, other: RecordedRun) -> list[Difference]:
    files = [run.folder / CONFIG_FILE for run in (first, other)]
    if not all(map(written_by_a_run, files)):
        return []
    one, two = (load(file).model_dump(mode="json", exclude={"run": {"folder"}}) for file in files)
    return list(differences(one, two))
