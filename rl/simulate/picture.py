"""The plot: speed against workers, a step's seconds against staleness, and who does what in three steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rl.report.chart import BOTTOM, LEFT, RIGHT, TOP, line_chart
from rl.simulate.arguments import SimulationPlan
from rl.simulate.bounds import best_split, bounds
from rl.simulate.findings import ScalingRow, scorers, simulated
from rl.simulate.simulation import CallSpan, Faults

_SHOWN = (0, 1, 2, 3)  # staleness
_LANES = 16


@dataclass(frozen=True)
class Block:
    """A call as a rectangle in pixels; ``shade``: of its step."""

    left: float
    top: float
    width: float
    height: float
    shade: int
    text: str


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
    blocks, lanes = gantt(first.clean.bars)
    return environment.get_template("plot.svg").render(
        charts=[
            line_chart("pictures per second, by workers", _speed(rows)),
            line_chart(f"seconds of a step, by staleness: {first.workers} workers", _by_staleness(plan, first)),
        ],
        blocks=blocks,
        lanes=lanes,
        gantt=f"three steps on {first.split} of {first.workers} workers",
        costs=plan.work.costs.source,
    )


def _speed(rows: Sequence[ScalingRow]) -> dict[str, list[tuple[float, float]]]:
    """The closed form at each staleness, what was simulated, and what nobody can do better."""
    series: dict[str, list[tuple[float, float]]] = {}
    for staleness in _SHOWN:
        points = []
        for row in rows:
            split = best_split(row.work, row.workers, scorers(row.workers), staleness)
            points.append((float(row.workers), row.work.pictures / bounds(row.work, split).seconds(staleness)))
        series[f"staleness {staleness}"] = points
    for name, seconds in (
        ("simulated", lambda row: row.seconds),
        ("with faults", lambda row: row.disturbed),
        ("all busy", lambda row: row.work.device_seconds / row.workers),
    ):
        series[name] = [(float(row.workers), row.work.pictures / seconds(row)) for row in rows]
    return series


def _by_staleness(plan: SimulationPlan, row: ScalingRow) -> dict[str, list[tuple[float, float]]]:
    """On the same split."""
    formula = [(float(staleness), row.bounds.seconds(staleness)) for staleness in _SHOWN]
    seen = [
        (float(staleness), simulated(plan, row.work, row.split, staleness, Faults()).step_seconds(staleness))
        for staleness in _SHOWN
    ]
    return {"closed form": formula, "simulated": seen}


def gantt(bars: Sequence[CallSpan]) -> tuple[list[Block], list[tuple[float, str]]]:
    """Rectangles, and the names of the lanes with their heights; one lane a worker, the trainer's last."""
    names = sorted({bar.worker for bar in bars}, key=lambda name: (name == "trainer", _order(name)))
    names = [name for name in names if not name.startswith("score")][-_LANES:]
    shown = [bar for bar in bars if bar.worker in names]
    if not shown:
        return [], []
    begin, end = min(bar.start for bar in shown), max(bar.end for bar in shown)
    height, scale = (BOTTOM - TOP) / len(names), (RIGHT - LEFT) / (end - begin)
    first = min(bar.step for bar in shown)
    blocks = [
        Block(
            round(LEFT + (bar.start - begin) * scale, 1),
            round(TOP + names.index(bar.worker) * height + 1, 1),
            round((bar.end - bar.start) * scale, 1),
            round(height - 2, 1),
            bar.step - first,
            f"{bar.worker}: step {bar.step}, {bar.end - bar.start:.3g} s",
        )
        for bar in shown
    ]
    return blocks, [(round(TOP + (lane + 0.5) * height + 3, 1), name) for lane, name in enumerate(names)]


def _order(name: str) -> tuple[int, int]:
    stage, _, number = name.partition("-")
    return ("sample", "paint", "score", "trainer").index(stage), int(number or 0)
