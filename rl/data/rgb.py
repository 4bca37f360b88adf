"""What a picture file shows: one answer for every command, whatever kind of picture it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = 255


def rgb(picture: Image) -> NDArray[np.uint8]:
    """(H, W, 3) of an open PIL picture, as a viewer on a white page shows it.

    Upright by its EXIF orientation; of several frames the first; what is transparent lies on white; of 16 bits a
    channel the upper 8; grey, palette, CMYK and black and white as RGB. Colour profiles are not applied.
    Raises ``ValueError`` for numbers without a known white (32 bits, floating point) and for kinds PIL can't convert.
    """
    from PIL import Image, ImageOps

    if picture.mode in ("I", "F"):
        raise ValueError(
            f"it has 32 bits a channel (PIL's mode {picture.mode!r}), and nothing says which number is white"
        )
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16"):
        return _of_16_bits(np.asarray(upright), picture.info.get("transparency"))
    if upright.has_transparency_data:
        page = Image.new("RGBA", upright.size, (_WHITE, _WHITE, _WHITE, 255))
        upright = Image.alpha_composite(page, upright.convert("RGBA"))
    return np.asarray(upright.convert("RGB"))


def _of_16_bits(grey_HW: NDArray[np.uint16], transparent: object) -> NDArray[np.uint8]:
    """``transparent``: the one shade that stands for nothing, if there is one."""
    shade_HW = (grey_HW >> 8).astype(np.uint8)
    if isinstance(transparent, int):
        shade_HW[grey_HW == transparent] = _WHITE
    return np.repeat(shade_HW[..., None], 3, axis=2)
