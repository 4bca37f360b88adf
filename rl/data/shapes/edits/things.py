"""What stands in the cells of a scene, and where: the words and boxes that instructions and rules speak in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rl.data.shapes.sprites import CELL, CLASSES, COLORS, GRID, LETTERS, SIDE, SIZES, letter_mask, shape_mask
from rl.data.shapes.world import CELLS, letter_cell, shape_cell

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1), shares of the picture's width and height, y down."""
_INK = 0.3  # coverage from which a pixel belongs to a sprite's box
_PER_CLASS = len(SIZES) * len(COLORS)


@dataclass(frozen=True)
class Thing:
    """``Thing("circle", "red", "large")``; a letter is ``Thing("letter A", "black", "")``."""

    name: str
    color: str
    size: str

    @property
    def is_letter(self) -> bool:
        return self.name.startswith("letter ")

    @property
    def cell(self) -> int:
        """Its index among all cells of the world."""
        if self.is_letter:
            return letter_cell(self.name.removeprefix("letter "))
        return shape_cell(self.name, self.size, self.color)

    def box(self, place: int) -> Box:
        """Of what it covers, standing in cell ``place``."""
        x0, y0, x1, y1 = _extent(self.name, self.size)
        row, column = divmod(place, GRID)
        left, top = column * CELL, row * CELL
        return (left + x0) / SIDE, (top + y0) / SIDE, (left + x1) / SIDE, (top + y1) / SIDE

    def in_color(self, color: str) -> Thing:
        return replace(self, color=color)


def thing_of(cell: int) -> Thing | None:
    """What a cell index stands for; ``None``: nothing."""
    if cell == 0:
        return None
    if cell > len(CLASSES) * _PER_CLASS:
        return Thing(f"letter {LETTERS[cell - 1 - len(CLASSES) * _PER_CLASS]}", "black", "")
    kind, rest = divmod(cell - 1, _PER_CLASS)
    size, color = divmod(rest, len(COLORS))
    return Thing(CLASSES[kind], list(COLORS)[color], SIZES[size])


def things_in(scene: NDArray[np.int64]) -> dict[int, Thing]:
    """Place -> what stands there."""
    found = {place: thing_of(int(scene[place])) for place in range(CELLS)}
    return {place: thing for place, thing in found.items() if thing is not None}


def scene_of(things: dict[int, Thing]) -> NDArray[np.int64]:
    """16 cell indices."""
    scene = np.zeros(CELLS, np.int64)
    for place, thing in things.items():
        scene[place] = thing.cell
    return scene


def cell_box(place: int) -> Box:
    row, column = divmod(place, GRID)
    return column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID


def row_box(row: int) -> Box:
    return 0.0, row / GRID, 1.0, (row + 1) / GRID


@cache
def _extent(name: str, size: str) -> tuple[int, int, int, int]:
    mask = letter_mask(name.removeprefix("letter ")) if name.startswith("letter ") else shape_mask(name, size)
    ys, xs = np.nonzero(mask > _INK)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
