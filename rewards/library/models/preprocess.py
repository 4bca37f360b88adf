"""Pictures to network input: resize, crop or pad, normalise. PIL and NumPy only, the same on every machine.

open_clip's and transformers' own transforms differ where torchvision is installed and where it is not; this one gives
what both give without it: PIL's antialiased resampling of 8-bit pixels, then ``(x / 255 - mean) / std`` in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)

Fit = Literal["shortest", "longest", "squash"]


@dataclass(frozen=True)
class Preprocess:
    """``size``: side of the square input in pixels. ``resize``: what the picture's side becomes first.

    ``fit``: ``shortest`` brings the shorter side to ``resize`` and crops the centre; ``longest`` brings the longer
    side to ``size`` and pads with black (HPSv2); ``squash`` brings both to ``size``. ``centre``: where half a pixel of
    the crop goes, ``round`` as in torchvision (open_clip), ``floor`` as in transformers.
    """

    size: int
    resize: int | None = None
    fit: Fit = "shortest"
    centre: Literal["round", "floor"] = "round"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: int = Image.Resampling.BICUBIC

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """N pictures (H, W, 3) uint8 of any sizes -> (N, 3, size, size) float32."""
        pixels_NSSC = np.stack([np.asarray(self._square(Image.fromarray(picture))) for picture in pictures])
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (pixels_NSSC.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def _square(self, picture: Image.Image) -> Image.Image:
        width, height = picture.size
        if self.fit == "squash":
            return self._resized(picture, self.size, self.size)
        if self.fit == "longest":
            scale = self.size / max(width, height)
            picture = self._resized(picture, max(1, round(width * scale)), max(1, round(height * scale)))
            canvas = Image.new("RGB", (self.size, self.size))
            canvas.paste(picture, ((self.size - picture.width) // 2, (self.size - picture.height) // 2))
            return canvas
        short = self.resize or self.size
        long = int(short * max(width, height) / min(width, height))
        picture = self._resized(picture, *((short, long) if width <= height else (long, short)))
        left, top = self._margin(picture.width), self._margin(picture.height)
        return picture.crop((left, top, left + self.size, top + self.size))  # beyond the picture is black

    def _resized(self, picture: Image.Image, width: int, height: int) -> Image.Image:
        return picture.resize((width, height), Image.Resampling(self.resample))

    def _margin(self, side: int) -> int:
        return round((side - self.size) / 2) if self.centre == "round" else (side - self.size) // 2
