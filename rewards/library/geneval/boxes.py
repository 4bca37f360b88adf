"""Boxes (x0, y0, x1, y1) in pixels: kept inside the picture, and overlapping ones of a class suppressed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rewards.library.geneval.contract import Detection

Box = tuple[float, float, float, float]


def clipped(box: Sequence[float], height: int, width: int) -> Box | None:
    """The part of ``box`` inside a picture of that size, ``None`` if there is none."""
    x0, y0, x1, y1 = (float(value) for value in box)
    x0, x1 = max(x0, 0.0), min(x1, float(width))
    y0, y1 = max(y0, 0.0), min(y1, float(height))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def suppress(detections: Iterable[Detection], max_overlap: float) -> list[Detection]:
    """Best first; what overlaps a better one of its class by more than ``max_overlap`` is dropped (1: nothing is)."""
    kept: list[Detection] = []
    of_class: dict[str, list[Box]] = defaultdict(list)
    for detection in sorted(detections, key=lambda detection: -detection.score):
        rivals = of_class[detection.label]
        if all(overlap(detection.box, rival) <= max_overlap for rival in rivals):
            rivals.append(detection.box)
            kept.append(detection)
    return kept
