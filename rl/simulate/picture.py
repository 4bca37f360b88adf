"""The plot: speed against workers, a step's seconds against staleness, and who does what in three steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rl.report.chart import line_chart
from rl.report.gantt import gantt
from rl.simulate.arguments import SimulationPlan
from rl.simulate.bounds import best_split, bounds
from rl.simulate.faults import NO_FAULTS
from rl.simulate.findings import ScalingRow, scorers, simulated

_SHOWN = (0, 1, 2, 3)  # staleness


def draw(plan: SimulationPlan, rows: Sequence[ScalingRow]) -> str:
    """An SVG."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = rows[0]
    calls = gantt(first.clean.bars)
    return environment.get_template("plot.svg").render(
        charts=[
            line_chart("pictures per second, by workers", _speed(plan, rows)),
            line_chart(f"seconds of a step, by staleness: {first.workers} workers", _by_staleness(plan, first)),
        ],
        blocks=calls.blocks,
        lanes=calls.lanes,
        gantt=f"three steps on {first.split} of {first.workers} workers",
        costs=plan.work.costs.source,
    )


def _speed(plan: SimulationPlan, rows: Sequence[ScalingRow]) -> dict[str, list[tuple[float, float]]]:
    """The closed form at each staleness, what was simulated, and what nobody can do better."""
    series: dict[str, list[tuple[float, float]]] = {}
    for staleness in _SHOWN:
        points = []
        for row in rows:
            split = best_split(row.work, row.workers, scorers(row.workers), staleness)
            seconds = bounds(row.work, split, plan.cores).seconds(staleness)
            points.append((float(row.workers), row.work.pictures / seconds))
        series[f"staleness {staleness}"] = points
    for name, took in (
        ("simulated", lambda row: row.seconds),
        ("with faults", lambda row: row.disturbed),
        ("all busy", lambda row: row.work.device_seconds / row.workers),
    ):
        series[name] = [(float(row.workers), row.work.pictures / took(row)) for row in rows]
    return series


def _by_staleness(plan: SimulationPlan, row: ScalingRow) -> dict[str, list[tuple[float, float]]]:
    """On the same split."""
    formula = [(float(staleness), row.bounds.seconds(staleness)) for staleness in _SHOWN]
    seen = [
        (float(staleness), simulated(plan, row.work, row.split, staleness, NO_FAULTS).step_seconds(staleness))
        for staleness in _SHOWN
    ]
    return {"closed form": formula, "simulated": seen}
