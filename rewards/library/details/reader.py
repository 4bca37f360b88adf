"""What stands in each cell of a picture of the shapes world, and how it is drawn: the nearest of all its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rewards.library.geneval.contract import Detection
from rl.data.shapes.looks import GROUNDS, SHADED_COLORS, SHADES, Look, drawn_cell
from rl.data.shapes.sprites import CELL, CLASSES, COLORS, GRID, LETTERS, SIZES

UNCLEAR = "unclear"
"""A detail between two values: a fault of the picture, not of the reader."""
_CLEAR = 0.7  # of the way from any other value of a detail to its own: half-painted details are none
_FAINT = 0.25  # of the faintest object's ink: less is an empty cell
_NO_FIT, _FULL_FIT = 0.5, 0.8  # explained share of an object's ink that maps to score 0 and 1


@dataclass(frozen=True)
class SeenCell:
    """One cell: ``label`` is a class, "letter A", or None for an empty one. Details may be ``UNCLEAR``."""

    label: str | None
    color: str
    size: str
    ground: str
    shade: str
    outlined: bool | str


@dataclass(frozen=True)
class SeenObject:
    """What a picture holds in one cell, as GenEval's rules read it, with its details."""

    detection: Detection
    shade: str
    outlined: bool | str


@dataclass(frozen=True)
class SeenPicture:
    objects: tuple[SeenObject, ...]
    grounds: tuple[str, ...]
    """Of the 16 cells."""


@dataclass(frozen=True)
class _Templates:
    cells: tuple[SeenCell, ...]
    pixels_NF: NDArray[np.float32]
    square_N: NDArray[np.float32]
    ink_N: NDArray[np.float32]  # energy of what stands on the ground
    others: tuple[dict[str, NDArray[np.int64]], ...]  # detail -> cells that differ in it alone

    @property
    def empty(self) -> int:
        """The first ones are the empty cells."""
        return len(GROUNDS)


def read_picture(picture: NDArray[np.uint8]) -> SeenPicture:
    """(64, 64, 3) uint8 -> what it shows."""
    tiles = picture.reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2).reshape(GRID * GRID, -1).astype(np.float32)
    known = _templates()
    empty_MN = _distances(tiles, known, slice(known.empty))
    faint = _FAINT * float(known.ink_N[known.ink_N > 0].min())
    inked = np.flatnonzero(empty_MN.min(1) > faint)
    whole_MN = _distances(tiles[inked], known, slice(None))
    objects, grounds = [], []
    rows = dict(zip(inked.tolist(), whole_MN, strict=True))
    for place in range(len(tiles)):
        row = rows.get(place, empty_MN[place])
        best = int(row.argmin())
        cell = _cleared(known, row, best)
        grounds.append(cell.ground)
        if cell.label is not None:
            objects.append(_object(cell, place, 1 - float(row[best] / known.ink_N[best])))
    return SeenPicture(tuple(one for one in objects if one.detection.score > 0), tuple(grounds))


def _distances(tiles_MF: NDArray[np.float32], known: _Templates, part: slice) -> NDArray[np.float32]:
    """Squared, (M, n)."""
    square_M1 = (tiles_MF**2).sum(1, keepdims=True)
    return square_M1 - 2 * tiles_MF @ known.pixels_NF[part].T + known.square_N[part]


def _cleared(known: _Templates, distance_N: NDArray[np.float32], best: int) -> SeenCell:
    """The best template's cell, with each detail that is not clearly there made ``UNCLEAR``."""
    cell = known.cells[best]
    for detail, others in known.others[best].items():
        apart = ((known.pixels_NF[others] - known.pixels_NF[best]) ** 2).sum(1)
        towards = ((distance_N[others] - distance_N[best]) / apart + 1) / 2  # 0 at the other, 1 at its own value
        if towards.min() < _CLEAR:
            cell = replace(cell, **{detail: UNCLEAR})
    return cell


def _object(cell: SeenCell, place: int, share: float) -> SeenObject:
    row, column = divmod(place, GRID)
    box = (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)
    score = float(np.clip((share - _NO_FIT) / (_FULL_FIT - _NO_FIT), 0.0, 1.0))
    return SeenObject(Detection(str(cell.label), score, box, color=cell.color), cell.shade, cell.outlined)


@cache
def _templates() -> _Templates:
    cells = list(_every_cell())
    drawn = [
        drawn_cell(
            None if cell.label is None else cell.label.removeprefix("letter "),
            cell.size,
            cell.color,
            Look(cell.ground, cell.shade, cell.outlined is True),
        )
        for cell in cells
    ]
    pixels_NF = np.stack(drawn).reshape(len(cells), -1).astype(np.float32)
    grounds = {cell.ground: pixels for cell, pixels in zip(cells[: len(GROUNDS)], pixels_NF, strict=False)}
    ink_N = ((pixels_NF - np.stack([grounds[cell.ground] for cell in cells])) ** 2).sum(1)
    index = {cell: number for number, cell in enumerate(cells)}
    others = tuple(_others(cell, index) for cell in cells)
    return _Templates(tuple(cells), pixels_NF, (pixels_NF**2).sum(1), ink_N, others)


def _every_cell() -> Sequence[SeenCell]:
    """Empty ones first."""
    empty = [SeenCell(None, "", "", ground, SHADES[0], False) for ground in GROUNDS]
    shapes = [
        SeenCell(name, color, size, ground, shade, outlined)
        for name, color, size, ground in product(CLASSES, COLORS, SIZES, GROUNDS)
        for shade, outlined in product(SHADES, (False, True))
        if color in SHADED_COLORS or (shade, outlined) == (SHADES[0], False)
    ]
    letters = [
        SeenCell(f"letter {letter}", "black", "", ground, SHADES[0], False)
        for letter, ground in product(LETTERS, GROUNDS)
    ]
    return [*empty, *shapes, *letters]


def _others(cell: SeenCell, index: dict[SeenCell, int]) -> dict[str, NDArray[np.int64]]:
    values: dict[str, tuple[str | bool, ...]] = {"ground": GROUNDS, "shade": SHADES, "outlined": (False, True)}
    found = {}
    for detail, every in values.items():
        others = [replace(cell, **{detail: value}) for value in every if value != getattr(cell, detail)]  # type: ignore[arg-type]
        known = [index[other] for other in others if other in index]
        if known:
            found[detail] = np.array(known)
    return found
