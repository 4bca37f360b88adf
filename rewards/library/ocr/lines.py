"""Boxes of text in reading order: grouped into lines from top to bottom, each line from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Line:
    """A piece of read text: what the recogniser said, how sure it was in [0, 1], and where, as (x0, y0, x1, y1)."""

    text: str
    confidence: float
    box: Box


def in_reading_order(pieces: Sequence[Line]) -> list[Line]:
    """The pieces joined to lines. A line's confidence is its weakest piece's, its box is around them all.

    From the top (by the boxes' centres), a piece joins the first line whose topmost piece it overlaps vertically by at
    least half of the lower of the two, unless it stands above or below a piece of that line; else it opens a line.
    """
    lines: list[list[Line]] = []
    for piece in sorted(pieces, key=lambda piece: (piece.box[1] + piece.box[3], piece.box[0])):
        for line in lines:
            if _beside(piece.box, line[0].box) and not any(_stacked(piece.box, other.box) for other in line):
                line.append(piece)
                break
        else:
            lines.append([piece])
    return [_joined(sorted(line, key=lambda piece: piece.box[0])) for line in lines]


def _beside(a: Box, b: Box) -> bool:
    return min(a[3], b[3]) - max(a[1], b[1]) >= 0.5 * min(a[3] - a[1], b[3] - b[1])


def _stacked(a: Box, b: Box) -> bool:
    """Whether they share at least half of the narrower one's width: neighbours in a line touch at most."""
    return min(a[2], b[2]) - max(a[0], b[0]) >= 0.5 * min(a[2] - a[0], b[2] - b[0])


def _joined(pieces: Sequence[Line]) -> Line:
    x0, y0, x1, y1 = zip(*(piece.box for piece in pieces), strict=True)
    return Line(
        text=" ".join(piece.text for piece in pieces),
        confidence=min(piece.confidence for piece in pieces),
        box=(min(x0), min(y0), max(x1), max(y1)),
    )
