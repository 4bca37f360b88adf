"""The shapes world's own object detector: template matching, cell by cell, with a free foreground colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rewards.library.geneval.contract import Detection
from rl.data.shapes import world
from rl.data.shapes.looks import OUTLINE_DEPTH
from rl.data.shapes.sprites import (
    BACKGROUND,
    CELL,
    CLASSES,
    COLORS,
    GRID,
    LETTERS,
    SIDE,
    SIZES,
    letter_mask,
    outline_mask,
    shape_mask,
)
from rl.types import UserError

_BLURS = (0.0, 0.8)  # templates sharp and soft, since a decoder may paint either
_MIN_INK = 0.35  # of the faintest sprite's energy: less is an empty cell
_NO_FIT, _FULL_FIT = 0.5, 0.8  # explained share of a cell's ink that maps to score 0 and 1
_COLOR_RADIUS = 110.0  # RGB distance beyond which a colour is none of the palette's
_LINE = -OUTLINE_DEPTH * np.array(BACKGROUND, np.float32)  # an outline's difference to the background
UNCLEAR = "unclear"  # an object between two colours: a fault of the picture, not of the detector


@dataclass(frozen=True)
class _Templates:
    labels: tuple[str, ...]
    boxes: NDArray[np.float64]  # (N, 4) inside the cell
    unit_NF: NDArray[np.float32]  # masks of unit norm, flattened
    norm_N: NDArray[np.float32]
    outline_NF: NDArray[np.float32]  # 0 where a template has none
    outline_match_N: NDArray[np.float32]  # of a unit of it, on the mask itself


class ShapesDetector:
    """Finds shapes (and letters) in (64, 64, 3) pictures.

    For mask ``a`` and cell contents ``D`` (difference to the background) the best foreground is ``a.D / a.a``; the
    template that explains the largest share of ``D``'s energy wins, and that share is the score. Letters are labelled
    ``letter A`` and so on, which keeps them from being taken for shapes.
    """

    classes = tuple(CLASSES)
    colors = tuple(COLORS)
    sure = 0.5
    """Score below which it can't tell what stands there."""

    def __init__(self) -> None:
        self._templates = _build_templates()
        palette = np.array(list(COLORS.values()), np.float32) - np.array(BACKGROUND, np.float32)
        faintest = min(float((shape_mask(n, "small") ** 2).sum()) for n in CLASSES) * float((palette**2).sum(1).min())
        self._min_energy, self._palette = _MIN_INK * faintest, palette

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Raises: UserError if a picture is not 64 x 64."""
        return [self._detect_one(picture) for picture in pictures]

    def golden(self) -> list[tuple[NDArray[np.uint8], dict[str, object], bool]]:
        """(picture, GenEval metadata, whether it passes): a red circle, asked for and not asked for."""
        red, blue = (world.Content("colors", (color, "circle")) for color in ("red", "blue"))
        drawn = world.picture(world.draw_scene(red, np.random.default_rng(0)))
        return [(drawn, red.metadata(), True), (drawn, blue.metadata(), False)]

    def _detect_one(self, picture: NDArray[np.uint8]) -> list[Detection]:
        if picture.shape != (SIDE, SIDE, 3):
            raise UserError(
                f"detector 'shapes' reads {SIDE}x{SIDE} RGB pictures but got shape {picture.shape}; "
                "it only knows the embedded shapes world, choose another detector for other models."
            )
        tiles = picture.reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2).reshape(GRID * GRID, CELL * CELL, 3)
        ink_MF3 = tiles.astype(np.float32) - np.array(BACKGROUND, np.float32)
        match_MN3, whole_MN = self._match(ink_MF3)
        energy_MN = (match_MN3**2).sum(-1)
        best_M = (energy_MN - whole_MN).argmax(1)
        found = []
        for cell, best in enumerate(best_M):
            if energy_MN[cell, best] >= self._min_energy:
                share = energy_MN[cell, best] / whole_MN[cell, best]
                found.append(self._detection(cell, int(best), float(share), match_MN3[cell, best]))
        return [detection for detection in found if detection.score > 0]

    def _match(self, ink_MF3: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What each template takes of each cell (M, N, 3), and the energy that there was to explain (M, N): without
        the outline, whose colour is known, where the template has one."""
        known = self._templates
        match_MN3 = np.tensordot(ink_MF3, known.unit_NF, (1, 1)).swapaxes(1, 2) - known.outline_match_N[:, None] * _LINE
        on_lines_MN = np.tensordot(ink_MF3, known.outline_NF, (1, 1)).swapaxes(1, 2) @ _LINE
        outline_N = (known.outline_NF**2).sum(1) * float(_LINE @ _LINE)
        return match_MN3, (ink_MF3**2).sum((1, 2))[:, None] - 2 * on_lines_MN + outline_N

    def _detection(self, cell: int, best: int, share: float, match_3: NDArray[np.float32]) -> Detection:
        row, column = divmod(cell, GRID)
        x0, y0, x1, y1 = self._templates.boxes[best]
        box = (column * CELL + x0, row * CELL + y0, column * CELL + x1, row * CELL + y1)
        foreground = match_3 / self._templates.norm_N[best]
        distances = np.linalg.norm(self._palette - foreground, axis=1)
        color = list(COLORS)[int(distances.argmin())] if distances.min() <= _COLOR_RADIUS else UNCLEAR
        score = float(np.clip((share - _NO_FIT) / (_FULL_FIT - _NO_FIT), 0.0, 1.0))
        return Detection(self._templates.labels[best], score, box, color=color)


def _build_templates() -> _Templates:
    nothing = np.zeros((CELL, CELL), np.float32)
    shapes = [(name, shape_mask(name, size), outline_mask(name, size)) for name in CLASSES for size in SIZES]
    drawn = [(name, mask, outline) for name, mask, line in shapes for outline in (nothing, line * (1 - mask))]
    drawn += [(f"letter {letter}", letter_mask(letter), nothing) for letter in LETTERS]
    labels, boxes, masks, outlines = [], [], [], []
    for label, mask, outline in drawn:
        ys, xs = np.nonzero(mask > 0.3)
        for blur in _BLURS:
            labels.append(label)
            boxes.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
            masks.append(_blurred(mask, blur).reshape(-1))
            outlines.append(_blurred(outline, blur).reshape(-1))
    flat, outline_NF = np.stack(masks), np.stack(outlines)
    norm = np.linalg.norm(flat, axis=1)
    unit_NF = (flat / norm[:, None]).astype(np.float32)
    return _Templates(tuple(labels), np.array(boxes, float), unit_NF, norm, outline_NF, (unit_NF * outline_NF).sum(1))


def _blurred(mask: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    if radius == 0:
        return mask
    image = Image.fromarray((mask * 255).round().astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, np.float32) / 255.0
