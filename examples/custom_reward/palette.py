"""A reward of pixels: are the colours clean? It differs between renders of the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rl.data.shapes.sprites import BACKGROUND, COLORS
from rl.types import Sample

_PALETTE = np.array([BACKGROUND, *COLORS.values()], np.float32)


def palette(samples: Sequence[Sample], *, off: float = 40.0) -> list[float]:
    """1 minus the mean distance of the pixels to the nearest colour of the embedded world, in units of ``off`` (of 441,
    the length of the RGB cube's diagonal); what is further off than that counts as 1."""
    return [1.0 - float(np.minimum(_distance(sample.picture) / off, 1.0).mean()) for sample in samples]


def _distance(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W)."""
    apart = picture[..., None, :].astype(np.float32) - _PALETTE
    return np.sqrt((apart**2).sum(-1)).min(-1)
