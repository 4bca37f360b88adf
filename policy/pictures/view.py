"""One view of a picture for everything that a policy does with it: tokens, latents and comparisons see the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def square_view(pixels_HW3: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(side, side, 3): the largest square in the middle, brought to size by Pillow's bicubic filter.

    A picture of that size is itself.
    """
    height, width = pixels_HW3.shape[:2]
    if (height, width) == (side, side):
        return pixels_HW3
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Image.fromarray(np.ascontiguousarray(pixels_HW3[top : top + edge, left : left + edge]))
    return np.asarray(middle.resize((side, side), Image.Resampling.BICUBIC))
