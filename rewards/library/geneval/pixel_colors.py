"""The ``pixels`` colour classifier: every pixel of an object votes for one of the ten colours; no weights, no GPU.

Card. A pixel with little chroma in CIELAB (under 14; under 30 where lightness is under 16) is black below lightness
50 and white above; any other takes the name of the nearest shade in the table below (Euclidean in CIELAB: CIE 1976),
which holds light, plain and dark shades of each hue: dark orange is brown and light red is pink to the eye. The
object's pixels are those of its mask, without one those of the ellipse inside its box. The colour with most votes
wins. Blind to what belongs to the object: background inside a box votes too, so use it with masks or with objects
that fill their boxes; grey, which is none of the ten, is black or white. Licence: none needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from rewards.library.geneval.colors import COLORS, pixel_box
from rewards.library.geneval.contract import Detection
from rewards.requires import Requires
from rl.types import UserError

_SHADES = {
    "red": "ff0000 dc143c c00010 8b0000 e04848 600008",
    "orange": "ff8c00 ffa500 f07020 e08030",
    "yellow": "ffff00 ffd700 f0e060 d0b818 f0e0a8",
    "green": "008000 00ff00 50c050 005000 90ee90 6b8e23 00c080 203818 b8d8a8",
    "blue": "0000ff 000080 4169e1 1e90ff 87ceeb 4682b4 00c8ff 203858 007080 0055ff 000058",
    "purple": "800080 4b0082 8a2be2 9370db b060d0 301038 d8b8f0",
    "pink": "ffc0cb ff69b4 ff1493 f090b0 ff9a9a",
    "brown": "8b4513 654321 a0522d 5c3317 9c7040 3d2010 c8a878",
}
_NAMES = tuple(name for name, shades in _SHADES.items() for _ in shades.split())
_MIN_CHROMA, _MIDDLE_LIGHTNESS = 14.0, 50.0
_NIGHT_CHROMA, _NIGHT_LIGHTNESS = 30.0, 16.0  # what is this dark is black unless it is this colourful
_MAX_PIXELS = 10_000  # of an object; more change no vote


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(rgb2lab(rgb.astype(np.float32) / 255), np.float32)


_SHADES_LAB = _lab(np.array([[*bytes.fromhex(s)] for shades in _SHADES.values() for s in shades.split()], np.uint8))


class PixelColors:
    """``mask: false`` ignores masks and looks at the ellipse inside the box."""

    requires = Requires(packages=("scikit-image",))
    colors = COLORS

    def __init__(self, mask: bool = True) -> None:
        if not isinstance(mask, bool):
            raise UserError(f"option `mask` is {mask!r}: it must be true or false")
        self._mask = mask

    def classify(self, pictures: Sequence[NDArray[np.uint8]], detections: Sequence[Detection]) -> list[str]:
        """N objects in, N of the ten colours out."""
        return [self._classify(p, d) for p, d in zip(pictures, detections, strict=True)]

    def _classify(self, picture: NDArray[np.uint8], detection: Detection) -> str:
        if self._mask and detection.mask_HW is not None and detection.mask_HW.any():
            pixels_N3 = picture[detection.mask_HW]
        else:
            pixels_N3 = ellipse(picture, detection)
        votes = name_pixels(pixels_N3[:: -(-len(pixels_N3) // _MAX_PIXELS)])
        names, counts = np.unique(votes, return_counts=True)
        return str(names[counts.argmax()])


def ellipse(picture: NDArray[np.uint8], detection: Detection) -> NDArray[np.uint8]:
    """(N, 3): the pixels inside the ellipse that touches the box's four sides."""
    x0, y0, x1, y1 = pixel_box(detection, *picture.shape[:2])
    rows, columns = np.mgrid[y0:y1, x0:x1]
    across = (columns + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    down = (rows + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return picture[y0:y1, x0:x1][across**2 + down**2 <= 1]


def name_pixels(pixels_N3: NDArray[np.uint8]) -> NDArray[np.str_]:
    """(N,) the name of each RGB pixel's colour."""
    lab_N3 = _lab(pixels_N3)
    chroma_N = np.hypot(lab_N3[:, 1], lab_N3[:, 2])
    gray_N = chroma_N < np.where(lab_N3[:, 0] < _NIGHT_LIGHTNESS, _NIGHT_CHROMA, _MIN_CHROMA)
    distances = np.linalg.norm(lab_N3[:, None] - _SHADES_LAB, axis=-1)
    hues = np.array(_NAMES)[distances.argmin(axis=1)]
    return np.where(gray_N, np.where(lab_N3[:, 0] < _MIDDLE_LIGHTNESS, "black", "white"), hues)
