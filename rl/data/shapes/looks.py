"""Details below the codebook: how a cell can look without being another cell.

An image token says which cell stands in a place; its *look* says how it is drawn: the ground's texture, the shade of a
shape's colour, a dark outline. All looks of a cell have one token, so only the decoder can paint what a caption asks
for here. Look 0 is plain ground, normal shade, no outline: the cells of ``sprites.every_cell()`` as they are. Blank
cells, letters and black shapes have a ground and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rl.data.shapes.sprites import (
    BACKGROUND,
    CELL,
    CLASSES,
    COLORS,
    LETTERS,
    SIZES,
    letter_mask,
    outline_mask,
    shape_mask,
)

GROUNDS = ("plain", "striped", "dotted", "checked")
SHADES = ("normal", "pale", "dark")
SHADED_COLORS = tuple(name for name in COLORS if name != "black")
FIGURES = ("", "outlined", "pale", "outlined pale", "dark", "outlined dark")
"""The ways to draw a shape on one ground, in a caption's words; look = ground * 6 + figure."""
OUTLINE_DEPTH = 0.5  # of the way from the ground to black
_CONTRAST = 14.0  # of a texture, up and down from the background: its mean is the background's
_TOWARDS: dict[str, tuple[tuple[int, int, int], float]] = {
    "normal": (BACKGROUND, 0.0),
    "pale": (BACKGROUND, 0.3),
    "dark": ((0, 0, 0), 0.28),
}


@dataclass(frozen=True)
class Look:
    """``Look("striped", "pale", outlined=True)``: how one cell is drawn."""

    ground: str = "plain"
    shade: str = "normal"
    outlined: bool = False

    @property
    def index(self) -> int:
        """Into ``every_look()``."""
        return GROUNDS.index(self.ground) * len(FIGURES) + SHADES.index(self.shade) * 2 + int(self.outlined)

    @classmethod
    def of(cls, ground: str, figure: str) -> Self:
        """``Look.of("plain", "outlined pale")``."""
        words = figure.split()
        return cls(ground, next((shade for shade in SHADES if shade in words), "normal"), "outlined" in words)


LOOKS: tuple[Look, ...] = tuple(Look.of(*words) for words in product(GROUNDS, FIGURES))


@cache
def ground_texture(name: str) -> NDArray[np.float32]:
    """(16, 16), between -1 and 1 and of mean 0; goes on from cell to cell."""
    rows, columns = np.mgrid[:CELL, :CELL]
    match name:
        case "striped":
            up = rows % 8 < 4
        case "checked":
            up = (rows // 4 + columns // 4) % 2 == 0
        case "dotted":
            up = ~((abs(rows % 8 - 3.5) < 1.6) & (abs(columns % 8 - 3.5) < 1.6))
        case _:
            return np.zeros((CELL, CELL), np.float32)
    texture = np.where(up, 1.0, -1.0) - np.where(up, 1.0, -1.0).mean()
    return (texture / np.abs(texture).max()).astype(np.float32)


def shaded(color: str, shade: str) -> NDArray[np.float32]:
    """The colour of a shape in a shade: (3,). Black has only one."""
    ink, (target, share) = np.array(COLORS[color], np.float32), _TOWARDS[shade]
    return ink + share * (np.array(target, np.float32) - ink) if color in SHADED_COLORS else ink


def drawn_cell(name: str | None, size: str, color: str, look: Look) -> NDArray[np.uint8]:
    """(16, 16, 3) uint8 of a shape, of a capital letter or of nothing (None), in a look."""
    drawn = np.array(BACKGROUND, np.float32) + _CONTRAST * ground_texture(look.ground)[..., None]
    if name is not None:
        if look.outlined and name in CLASSES and color in SHADED_COLORS:
            drawn = drawn * (1 - OUTLINE_DEPTH * outline_mask(name, size)[..., None])
        mask = letter_mask(name) if name in LETTERS else shape_mask(name, size)
        drawn = drawn + mask[..., None] * (shaded(color, look.shade) - drawn)
    return drawn.round().clip(0, 255).astype(np.uint8)


@cache
def every_look() -> NDArray[np.uint8]:
    """(24 looks, cells, 16, 16, 3): every distinct cell, in the order of ``every_cell()``, in every look."""
    shapes = [(name, size, color) for name in CLASSES for size in SIZES for color in COLORS]
    cells: list[tuple[str | None, str, str]] = [(None, "", "black"), *shapes]
    cells += [(letter, "", "black") for letter in LETTERS]
    return np.stack([np.stack([drawn_cell(*cell, look) for cell in cells]) for look in LOOKS])
