"""The objects of two pictures, and which of them are the same: class, colour, box, and details where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.library.geneval.boxes import Box, overlap
from rewards.library.geneval.contract import Detection


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """``box``: shares of the picture's width and height. ``sure``: the detector knows what it is."""

    label: str
    color: str | None
    box: Box
    sure: bool = True
    shade: str | None = None
    outlined: bool | str | None = None
    """``None``: details were not looked at."""

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def is_in(self, region: Box) -> bool:
        x, y = self.centre
        return region[0] <= x < region[2] and region[1] <= y < region[3]

    def is_a(self, label: str, color: str | None) -> bool:
        return self.sure and self.label == label and color in (None, self.color)

    def __str__(self) -> str:
        x, y = self.centre
        drawn = ["outlined"] if self.outlined is True else []
        drawn += [self.shade] if self.shade else []
        words = [*([] if self.sure else ["unsure"]), *drawn, *([self.color] if self.color else []), self.label]
        return f"{' '.join(words)} at {x:.2f}, {y:.2f}"


def placed(detections: Sequence[Detection], height: int, width: int, sure: float, least: float) -> list[PlacedObject]:
    """Detections scored at ``least`` or above; below ``sure`` they are unsure."""
    return [
        PlacedObject(
            one.label,
            one.color,
            (one.box[0] / width, one.box[1] / height, one.box[2] / width, one.box[3] / height),
            one.score >= sure,
        )
        for one in detections
        if one.score >= least
    ]


def matched(
    before: Sequence[PlacedObject], after: Sequence[PlacedObject], least_overlap: float
) -> list[tuple[PlacedObject, PlacedObject]]:
    """Pairs that are the same object: class, colour where both have one, and boxes; each object in one pair at most.

    The best pairs first.
    """
    candidates = [
        (share, one, other)
        for one in before
        for other in after
        if _alike(one, other) and (share := overlap(one.box, other.box)) >= least_overlap
    ]
    found: list[tuple[PlacedObject, PlacedObject]] = []
    taken: set[int] = set()
    for _, one, other in sorted(candidates, key=lambda candidate: -candidate[0]):
        if not {id(one), id(other)} & taken:
            taken |= {id(one), id(other)}
            found.append((one, other))
    return found


def _alike(one: PlacedObject, other: PlacedObject) -> bool:
    if not (one.sure and other.sure and one.label == other.label):
        return False
    if (one.shade, one.outlined) != (other.shade, other.outlined):
        return False
    return one.color is None or other.color is None or one.color == other.color
