"""Pictures side by side with captions, and where each of them lies in the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from rl.run_folder.records import disk_errors

_PAD, _CAPTION_LINES, _FONT_SIZE, _MIN_TILE = 8, 3, 13, 128


@dataclass(frozen=True)
class Grid:
    """A captioned sheet; ``boxes[i]`` is picture i's place in it as (x0, y0, x1, y1) pixels."""

    sheet: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]

    def save(self, path: Path) -> None:
        with disk_errors(path, "saving pictures"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.sheet.save(path, pnginfo=PngImagePlugin.PngInfo())


def make_grid(pictures: NDArray[np.uint8], captions: Sequence[str], columns: int | None = None) -> Grid:
    """(N, H, W, 3) pictures, N captions. Small ones are enlarged by whole factors: they can be cut out exactly.

    ``columns``: pictures in a row; ``None``: about as many as rows.
    """
    if pictures.ndim != 4 or pictures.shape[3] != 3 or len(pictures) == 0:
        raise ValueError(f"a grid needs (N, H, W, 3) pictures with N > 0, got {pictures.shape}")
    if len(captions) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures but {len(captions)} captions")
    count, height, width, _ = pictures.shape
    scale = max(1, math.ceil(_MIN_TILE / width))
    columns = columns or min(count, max(4, math.ceil(math.sqrt(count))))
    font = ImageFont.load_default(_FONT_SIZE)
    cell_w, cell_h = width * scale + _PAD, height * scale + _PAD + _CAPTION_LINES * (_FONT_SIZE + 3)
    rows = math.ceil(count / columns)
    sheet = Image.new("RGB", (columns * cell_w + _PAD, rows * cell_h + _PAD), "white")
    draw = ImageDraw.Draw(sheet)
    boxes = []
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = _PAD + index % columns * cell_w, _PAD + index // columns * cell_h
        tile = Image.fromarray(picture).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(tile, (x, y))
        boxes.append((x, y, x + tile.width, y + tile.height))
        lines = _wrap(caption, font, tile.width)
        draw.multiline_text((x, y + tile.height + 2), "\n".join(lines), fill="#222222", font=font, spacing=2)
    return Grid(sheet, tuple(boxes))


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """At most three lines, the last one shortened with dots. Newlines in the text are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    if len(lines) > _CAPTION_LINES:
        lines = [*lines[: _CAPTION_LINES - 1], lines[_CAPTION_LINES - 1] + "…"]
    return lines
