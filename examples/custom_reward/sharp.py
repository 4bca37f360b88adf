"""A reward of pixels: are the edges sharp? It differs between renders of the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rl.types import Sample


def sharp(samples: Sequence[Sample], *, share: float = 0.05) -> list[float]:
    """Mean step of brightness to the next pixel, of the ``share`` of pixels where it is largest; at most 1."""
    return [_steepest(sample.picture, share) for sample in samples]


def _steepest(picture: NDArray[np.uint8], share: float) -> float:
    brightness = picture.astype(np.float32).mean(-1) / 255
    across, down = np.abs(np.diff(brightness, axis=1))[:-1], np.abs(np.diff(brightness, axis=0))[:, :-1]
    steps = np.sort(np.maximum(across, down), axis=None)
    return float(steps[-max(1, round(share * steps.size)) :].mean())
