"""A detector without weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from rewards.library.geneval.contract import Detection


class Bright:
    """Sees one star for every full 50 of the picture's first red value."""

    seen: int = 0
    breaks_at: int | None = None
    broken: ClassVar[list[int]] = []

    def __init__(self, color: str | None = "red") -> None:
        self.color = color
        self.colors = () if color is None else ("red", "blue")

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        found = []
        for picture in pictures:
            if Bright.seen == Bright.breaks_at:
                raise KeyboardInterrupt
            if int(picture[0, 0, 1]) in Bright.broken:
                raise MemoryError("no room")
            Bright.seen += 1
            stars = int(picture[0, 0, 0]) // 50
            found.append(
                [Detection("star", 0.95, (2.0 * i, 0.0, 2.0 * i + 1, 4.0), color=self.color) for i in range(stars)]
            )
        return found
