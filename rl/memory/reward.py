"""The reward of a measurement: it costs nothing and differs from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence

from rl.types import Sample


def darkness(samples: Sequence[Sample]) -> list[float]:
    """1 for black, 0 for white."""
    return [1.0 - float(sample.picture.mean()) / 255.0 for sample in samples]
