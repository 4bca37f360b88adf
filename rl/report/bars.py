"""Bar charts in the pixels of an SVG, of the size and with the numbers of the line charts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rl.report.chart import BOTTOM, LEFT, RIGHT, TOP, number, ticks

_GAP = 0.25  # between two groups, of a group's width


@dataclass(frozen=True)
class Bar:
    """A rectangle with its place among the bars of its group, and what is said where the mouse rests on it."""

    place: int
    left: float
    top: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class BarChart:
    """A titled frame; a tick is its place in pixels and its text, ``zero`` the height of 0."""

    title: str
    bars: Sequence[Bar]
    zero: float
    y_ticks: Sequence[tuple[float, str]]
    groups: Sequence[tuple[float, str]]


def bar_chart(title: str, groups: Mapping[str, Mapping[str, float]]) -> BarChart:
    """``groups[label][name]`` -> a bar of that height, side by side in each group; below zero it hangs down."""
    values = [value for group in groups.values() for value in group.values()]
    low, high = min(0.0, *values), max(0.0, *values)
    marks = ticks(low, high if high > low else low + 1.0)

    def up(value: float) -> float:
        return round(BOTTOM - (value - marks[0]) / (marks[-1] - marks[0]) * (BOTTOM - TOP), 1)

    span = (RIGHT - LEFT) / len(groups)
    bars = []
    for index, (label, group) in enumerate(groups.items()):
        width = span * (1 - _GAP) / len(group)
        for place, (name, value) in enumerate(group.items()):
            left = LEFT + span * (index + _GAP / 2) + width * place
            top, bottom = min(up(value), up(0.0)), max(up(value), up(0.0))
            text = f"{label}, {name}: {number(value)}"
            bars.append(Bar(place, round(left, 1), top, round(width, 1), round(bottom - top, 1), text))
    middles = [(round(LEFT + span * (index + 0.5), 1), label) for index, label in enumerate(groups)]
    return BarChart(title, bars, up(0.0), [(up(mark), number(mark)) for mark in marks], middles)
