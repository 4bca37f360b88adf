"""The curves of a sweep: a line per arm, the mean of its seeds, inside the band from the lowest to the highest seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rl.evaluation.results import GRADED, OVERALL
from rl.report.chart import MAX_POINTS, Band, Chart, Points, line_chart, running_mean, thin
from rl.sweep.result.gather import MadeArm, MadeRun, rewards_of, training_seconds
from rl.tracking.contract import GUARD_PREFIX

AXES = ("step", "pictures", "seconds")
_POINTS, _FEWEST_POINTS = 3 * MAX_POINTS, 40  # of all arms together, and of one: a page of many is to stay under 5 MB
_HEALTH = (
    ("KL to the reference (nats per token)", "kl"),
    ("Entropy (nats per token)", "entropy"),
    ("Share of groups without signal", "zero_std_fraction"),
    ("Gradient norm", "grad_norm"),
)


@dataclass(frozen=True)
class ArmCharts:
    """One figure over steps, pictures and seconds of training."""

    title: str
    by_axis: Mapping[str, Chart]


def arm_charts(arms: Sequence[MadeArm]) -> list[ArmCharts]:
    """Held-out scores and the training reward first, then guards and health. What was never logged is left out."""
    made = [arm for arm in arms if arm.runs]
    strict = [reward for reward in rewards_of(made) if not reward.endswith(GRADED)]
    found = [_charts(f"Held-out {reward}", made, _held_out(reward)) for reward in strict]
    found.append(_charts("Training reward", made, _logged("score")))
    found += [_charts(title, made, _logged(name)) for title, name in _HEALTH]
    names = dict.fromkeys(name for arm in made for run in arm.runs for row in run.rows for name in row.metrics)
    guards = [name for name in names if name.startswith(GUARD_PREFIX)]
    found += [
        _charts(f"Guard: {name.removeprefix(GUARD_PREFIX).replace('_', ' ')}", made, _logged(name)) for name in guards
    ]
    return [one for one in found if one.by_axis["step"].curves]


Reads = Callable[[MadeRun], list[tuple[int, float]]]
"""A run -> (steps done, value) of each point."""


def _logged(name: str) -> Reads:
    def read(run: MadeRun) -> list[tuple[int, float]]:
        points = [(float(row.step + 1), value) for row in run.rows if (value := row.metrics.get(name)) is not None]
        return [(int(step), value) for step, value in (running_mean(points) if len(points) > 8 else points)]

    return read


def _held_out(reward: str) -> Reads:
    def read(run: MadeRun) -> list[tuple[int, float]]:
        found = [(one.step, one.results.get(reward, {}).get(OVERALL)) for one in run.evaluations]
        return [(step, one.estimate.mean) for step, one in found if one is not None and one.estimate is not None]

    return read


def _charts(title: str, arms: Sequence[MadeArm], read: Reads) -> ArmCharts:
    lines = {arm.name: [read(run) for run in arm.runs] for arm in arms}
    by_axis, most = {}, max(_FEWEST_POINTS, _POINTS // max(1, len(arms)))
    for axis in AXES:
        series, bands = dict[str, Points](), dict[str, Band]()
        for arm in arms:
            points = _band(arm, lines[arm.name], axis)
            series[arm.name] = thin([(x, mean) for x, mean, _, _ in points], most)
            if len(arm.runs) > 1:
                lows = thin([(x, low) for x, _, low, _ in points], most)
                highs = thin([(x, high) for x, _, _, high in points], most)
                bands[arm.name] = [(x, low, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]
        by_axis[axis] = line_chart(title, series, bands=bands, unit=axis)
    return ArmCharts(title, by_axis)


def _band(
    arm: MadeArm, lines: Sequence[Sequence[tuple[int, float]]], axis: str
) -> list[tuple[float, float, float, float]]:
    """(x, mean, lowest, highest) at every step that all seeds have."""
    by_step = [dict(line) for line in lines]
    places = [_places(run, axis) for run in arm.runs]
    shared = sorted(set.intersection(*(set(one) for one in by_step))) if by_step else []
    found = []
    for step in shared:
        values = [one[step] for one in by_step]
        x = sum(place[min(step, len(place) - 1)] for place in places) / len(places)
        found.append((x, sum(values) / len(values), min(values), max(values)))
    return found


def _places(run: MadeRun, axis: str) -> list[float]:
    """Where on the axis the run is after 0, 1, ... steps."""
    costs = {
        "step": lambda: [1.0 for _ in run.rows],
        "pictures": lambda: [row.metrics.get("images") or 0.0 for row in run.rows],
        "seconds": lambda: [training_seconds(row) for row in run.rows],
    }[axis]()
    found = [0.0]
    for cost in costs:
        found.append(found[-1] + cost)
    return found
