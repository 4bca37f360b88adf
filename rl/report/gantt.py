"""Who did what when, as rectangles in the pixels of an SVG, of the size of the line charts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rl.report.chart import BOTTOM, LEFT, RIGHT, TOP, number, ticks
from rl.run_folder.usage import TRAINER, CallSpan

_LANES = 16
_ROLES = ("sample", "paint", "score", TRAINER)  # how names of workers begin


@dataclass(frozen=True)
class Block:
    """A call as a rectangle in pixels; ``shade``: of its step, counted from the first one; ``None``: of the others."""

    left: float
    top: float
    width: float
    height: float
    shade: int | None
    text: str


@dataclass(frozen=True)
class Gantt:
    """A lane for each worker; lanes and ticks of the axis, in seconds, are a place in pixels and a text."""

    blocks: Sequence[Block] = ()
    lanes: Sequence[tuple[float, str]] = ()
    ticks: Sequence[tuple[float, str]] = ()
    left_out: int = 0
    """Workers for whom there was no room."""


def gantt(calls: Sequence[CallSpan], first_step: int = 0, around: Sequence[CallSpan] = ()) -> Gantt:
    """One lane a worker, the trainer's last, the rewards left out; ``first_step``: how the first step is called;
    ``around``: calls of other steps, of which is drawn what falls into the same time."""
    names = sorted({call.worker for call in calls if not call.worker.startswith("score")}, key=_order)
    lanes = names[-_LANES:]
    shown = [call for call in calls if call.worker in lanes]
    if not shown:
        return Gantt()
    begin, end = min(call.start for call in shown), max(call.end for call in shown)
    others = [_within(call, begin, end) for call in around if call.worker in lanes]
    length = max(end - begin, 1e-9)
    height, scale = (BOTTOM - TOP) / len(lanes), (RIGHT - LEFT) / length
    first = min(call.step for call in shown)
    blocks = [
        Block(
            round(LEFT + (call.start - begin) * scale, 1),
            round(TOP + lanes.index(call.worker) * height + 1, 1),
            round((call.end - call.start) * scale, 1),
            round(height - 2, 1),
            shade,
            f"{call.worker}: step {call.step + first_step}, {call.end - call.start:.3g} s",
        )
        for call, shade in [(call, call.step - first) for call in shown]
        + [(call, None) for call in others if call.end > call.start]
    ]
    return Gantt(
        blocks,
        [(round(TOP + (lane + 0.5) * height + 3, 1), name) for lane, name in enumerate(lanes)],
        [(round(LEFT + at * scale, 1), number(at)) for at in ticks(0.0, length) if at <= length],
        len(names) - len(lanes),
    )


def _within(call: CallSpan, begin: float, end: float) -> CallSpan:
    return replace(call, start=max(call.start, begin), end=min(call.end, end))


def _order(name: str) -> tuple[int, int]:
    role = next((index for index, role in enumerate(_ROLES) if name.startswith(role)), len(_ROLES))
    _, _, count = name.partition("-")
    return role, int(count or 0)
