"""Line charts as inline SVG, coloured by the page's own variables so that they follow a light or dark theme."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 240, 54, 12, 10, 26
_MAX_POINTS = 240


def line_chart(
    series: Mapping[str, Points],
    *,
    smooth: bool = False,
    band: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """``series[name]``: (step, value) points; ``band[name]``: (step, low, high) shaded around a line; ``marks``: alarms
    as (step, sentence), drawn upright. With ``smooth`` the raw values are pale and a running mean is drawn over them.
    With two or more series a legend is drawn, and the first line is the thickest.
    """
    shown = {name: thin(points) for name, points in series.items() if points}
    if not shown:
        return '<p class="empty">nothing logged</p>'
    frame = _Frame(shown, band or {})
    parts = [frame.axes()]
    for index, (name, points) in enumerate(shown.items()):
        color = f"var(--c{index % 8})"
        edges = (band or {}).get(name, ())
        if edges:
            upper = [frame.place(x, top) for x, _, top in edges]
            lower = [frame.place(x, bottom) for x, bottom, _ in reversed(edges)]
            parts.append(f'<polygon points="{_path([*upper, *lower])}" fill="{color}" opacity=".12"/>')
        placed = [frame.place(x, y) for x, y in points]
        style = "line main" if len(shown) > 1 and index == 0 else "line"
        if smooth and len(points) > 8:
            parts.append(_line(placed, color, "pale"))
            placed = [frame.place(x, y) for x, y in running_mean(points)]
        parts.append(_line(placed, color, style))
        if len(points) <= 12:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{color}"/>' for x, y in placed]
    for step, sentence in marks:
        x, _ = frame.place(step, frame.y0)
        parts.append(
            f'<g class="alarm"><title>{escape(sentence)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_H - _BOTTOM}"/></g>'
        )
    hover = {name: [[*map(_round, frame.place(x, y)), x, y] for x, y in points] for name, points in shown.items()}
    svg = (
        f'<svg viewBox="0 0 {_W} {_H}" class="chart" role="img" data-hover="{escape(json.dumps(hover))}">'
        f"{''.join(parts)}</svg>"
    )
    return svg + (legend(list(shown)) if len(shown) > 1 else "")


def legend(names: Sequence[str]) -> str:
    items = (
        f'<span><i style="background:var(--c{index % 8})"></i>{escape(name)}</span>' for index, name in enumerate(names)
    )
    return f'<div class="legend">{"".join(items)}</div>'


def thin(points: Points) -> list[tuple[float, float]]:
    """At most 240 points: neighbours are averaged, never dropped."""
    size = math.ceil(len(points) / _MAX_POINTS)
    if size <= 1:
        return list(points)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in c) / len(c), sum(y for _, y in c) / len(c)) for c in chunks]


def running_mean(points: Points) -> list[tuple[float, float]]:
    """Centred, over an eighth of the points; at the ends over the half that exists."""
    reach = max(1, len(points) // 16)
    smoothed = []
    for index, (x, _) in enumerate(points):
        window = points[max(0, index - reach) : index + reach + 1]
        smoothed.append((x, sum(y for _, y in window) / len(window)))
    return smoothed


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) that cover low to high."""
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


class _Frame:
    """Data to pixels, with the axes."""

    def __init__(
        self,
        series: Mapping[str, Points],
        band: Mapping[str, Sequence[tuple[float, float, float]]],
    ) -> None:
        xs = [x for points in series.values() for x, _ in points]
        ys = [y for points in series.values() for _, y in points]
        ys += [edge for edges in band.values() for _, *both in edges for edge in both]
        self.x0, self.x1 = min(xs), max(xs)
        if self.x1 == self.x0:
            self.x1 = self.x0 + 1
        y0, y1 = min(ys), max(ys)
        if y1 - y0 <= 1e-12 * max(1.0, abs(y1)):  # a flat line sits in the middle
            room = abs(y1) * 0.5 or 1.0
            y0, y1 = y0 - room, y1 + room
        self.y_ticks = ticks(y0, y1)
        self.y0, self.y1 = self.y_ticks[0], self.y_ticks[-1]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x0) / (self.x1 - self.x0)
        up = (y - self.y0) / (self.y1 - self.y0)
        return _LEFT + across * (_W - _LEFT - _RIGHT), _H - _BOTTOM - up * (_H - _TOP - _BOTTOM)

    def axes(self) -> str:
        parts = []
        for value in self.y_ticks:
            _, y = self.place(self.x0, value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 7}" y="{y + 4.5:.1f}" text-anchor="end">{number(value)}</text>')
        for value in ticks(self.x0, self.x1):
            if self.x0 <= value <= self.x1:
                x, _ = self.place(value, self.y0)
                parts.append(f'<text x="{x:.1f}" y="{_H - 6}" text-anchor="middle">{number(value)}</text>')
        return "".join(parts)


def number(value: float) -> str:
    """Short: ``0.25``, ``1e-05``, ``12000``, without the dust of floating point."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _line(placed: Points, color: str, style: str) -> str:
    return f'<polyline class="{style}" points="{_path(placed)}" stroke="{color}"/>'


def _path(placed: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)


def _round(value: float) -> float:
    return round(value, 1)
