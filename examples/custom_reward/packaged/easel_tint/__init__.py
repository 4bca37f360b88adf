"""The ``tint`` reward: how much of a picture's colour is the one asked for."""

from __future__ import annotations

import numpy as np

CHANNELS = ("red", "green", "blue")


class Tint:
    """Share of one channel in the picture's light: 1/3 for gray, 1 for a pure colour."""

    def __init__(self, channel: str = "red") -> None:
        if channel not in CHANNELS:
            raise ValueError(f"channel is {channel!r}; it must be one of {', '.join(CHANNELS)}")
        self.channel = CHANNELS.index(channel)

    def __call__(self, samples):
        sums = [sample.picture.astype(np.float64).sum((0, 1)) + 1 for sample in samples]
        return [float(light[self.channel] / light.sum()) for light in sums]
