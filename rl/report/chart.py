"""Line charts in the pixels of an SVG: what the macro ``line_chart`` of page.html draws, computed and rounded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]
Band = Sequence[tuple[float, float, float]]
LEFT, RIGHT, TOP, BOTTOM = 54, 408, 10, 214  # the frame inside the 420 x 240 pixels that page.html and script.js know
MAX_POINTS = 240


@dataclass(frozen=True)
class Curve:
    """One named line; paths are SVG's ``x,y x,y ...``, empty where there is nothing to draw."""

    name: str
    place: int
    """Among all that were given, also those without a point: colour and dashes are its."""
    line: str
    pale: str
    """The raw values, where ``line`` is their running mean."""
    band: str
    """The outline of the interval around the line."""
    dots: Points
    """The points of a line that has few of them."""


@dataclass(frozen=True)
class Chart:
    """A titled frame, empty if there is no curve; a tick or an alarm is its place in pixels and its text."""

    title: str
    curves: Sequence[Curve] = ()
    y_ticks: Sequence[tuple[float, str]] = ()
    x_ticks: Sequence[tuple[float, str]] = ()
    alarms: Sequence[tuple[float, str]] = ()
    turns: Sequence[tuple[float, float]] = ()
    """Shaded: left edge and width."""
    hover: str = "{}"
    """JSON for script.js: name -> [x pixel, y pixel, step, value] of every point."""
    unit: str = "step"
    """Of the axis across."""


def line_chart(
    title: str,
    series: Mapping[str, Points],
    *,
    smooth: bool = False,
    bands: Mapping[str, Band] | None = None,
    alarms: Sequence[tuple[float, str]] = (),
    turns: Sequence[tuple[float, float]] = (),
    unit: str = "step",
) -> Chart:
    """``series[name]``: (step, value) points; ``bands[name]``: (step, low, high) shaded around a line; ``alarms``:
    (step, sentence), drawn upright; ``turns``: (from, to) steps that are shaded;
    ``unit``: what is counted across. With ``smooth`` the raw values are pale and a running mean is drawn over them.
    """
    shown = {name: thin(points) for name, points in series.items() if points}
    places = {name: place for place, name in enumerate(series)}
    if not shown:
        return Chart(title)
    bands = bands or {}
    frame = _Frame(shown, bands)
    hover = {name: [[frame.across(x), frame.up(y), x, y] for x, y in points] for name, points in shown.items()}
    return Chart(
        title,
        [_curve(frame, name, places[name], points, bands.get(name, ()), smooth) for name, points in shown.items()],
        list(zip(map(frame.up, frame.y_ticks), apart(frame.y_ticks), strict=True)),
        [(frame.across(x), number(x)) for x in ticks(frame.x0, frame.x1) if frame.x0 <= x <= frame.x1 and x == int(x)],
        [(frame.across(step), sentence) for step, sentence in alarms],
        [frame.span(*turn) for turn in turns],
        json.dumps(hover),
        unit,
    )


def thin(points: Points, most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most so many points: neighbours are averaged, never dropped."""
    size = math.ceil(len(points) / most)
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


def number(value: float, digits: int = 3) -> str:
    """Short: ``0.25``, ``1e-05``, ``12000``, without the dust of floating point."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def apart(values: Sequence[float]) -> list[str]:
    """With as many digits as tell them from each other: ``0.9995``, ``1``, ``1.0005``."""
    texts: list[str] = []
    for digits in range(3, 10):
        texts = [number(value, digits) for value in values]
        if len(set(texts)) == len(texts):
            break
    return texts


class _Frame:
    """Data to pixels, rounded to a tenth."""

    def __init__(self, series: Mapping[str, Points], bands: Mapping[str, Band]) -> None:
        xs = [x for points in series.values() for x, _ in points]
        ys = [y for points in series.values() for _, y in points]
        ys += [edge for band in bands.values() for _, *both in band for edge in both]
        self.x0, self.x1 = min(xs), max(xs)
        if self.x1 == self.x0:
            self.x1 = self.x0 + 1
        y0, y1 = min(ys), max(ys)
        if y1 - y0 <= 1e-12 * max(1.0, abs(y1)):  # a flat line sits in the middle
            room = abs(y1) * 0.5 or 1.0
            y0, y1 = y0 - room, y1 + room
        self.y_ticks = ticks(y0, y1)

    def across(self, x: float) -> float:
        return round(LEFT + (x - self.x0) / (self.x1 - self.x0) * (RIGHT - LEFT), 1)

    def span(self, first: float, last: float) -> tuple[float, float]:
        """Left edge and width, inside the frame."""
        left, right = (self.across(min(max(x, self.x0), self.x1)) for x in (first, last))
        return left, round(right - left, 1)

    def up(self, y: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return round(BOTTOM - (y - low) / (high - low) * (BOTTOM - TOP), 1)

    def path(self, points: Points) -> str:
        return " ".join(f"{self.across(x)},{self.up(y)}" for x, y in points)


def _curve(frame: _Frame, name: str, place: int, points: Points, band: Band, smooth: bool) -> Curve:
    outline = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
    smooth = smooth and len(points) > 8
    drawn = running_mean(points) if smooth else points
    dots = [(frame.across(x), frame.up(y)) for x, y in drawn] if len(points) <= 12 else []
    return Curve(name, place, frame.path(drawn), frame.path(points) if smooth else "", frame.path(outline), dots)
