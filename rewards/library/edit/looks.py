"""Details of the shapes world, beside what a detector has found: how each object is drawn, and the picture's ground."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rewards.library.details.reader import UNCLEAR, SeenObject, read_picture
from rewards.library.edit.objects import PlacedObject
from rl.data.shapes.sprites import GRID, SIDE

_GROUND = 15 / 16  # of the cells must have it


@dataclass(frozen=True)
class Drawn:
    """``ground``: of nearly all cells, or ``UNCLEAR``."""

    objects: tuple[PlacedObject, ...]
    ground: str


def with_looks(objects: Sequence[PlacedObject], picture: NDArray[np.uint8]) -> Drawn:
    """The same objects with their shade and outline. Raises ``ValueError`` on a picture of another world."""
    height, width = picture.shape[:2]
    if (height, width) != (SIDE, SIDE):
        raise ValueError(
            f"the picture is {width} x {height} pixels; details are read in the shapes world, {SIDE} x {SIDE}"
        )
    seen = read_picture(picture)
    cells = {_cell(one.detection.box[0] / SIDE, one.detection.box[1] / SIDE): one for one in seen.objects}
    ground, count = Counter(seen.grounds).most_common(1)[0]
    return Drawn(
        tuple(_drawn(one, cells.get(_cell(*one.centre))) for one in objects),
        ground if count / len(seen.grounds) >= _GROUND else UNCLEAR,
    )


def _drawn(one: PlacedObject, seen: SeenObject | None) -> PlacedObject:
    if seen is None:
        return replace(one, shade=UNCLEAR, outlined=UNCLEAR)
    return replace(one, shade=seen.shade, outlined=seen.outlined)


def _cell(x: float, y: float) -> tuple[int, int]:
    return int(y * GRID), int(x * GRID)
