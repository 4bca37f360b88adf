"""Pictures in anonymous shared memory: written once, then mapped read-only by the worker of every reward.

A picture of 1024 px is 3 MB; through a pipe it would be copied five times per reward. The memory has no name and
belongs to whoever holds its descriptor or a mapping, so nothing is left behind however a process ends, and a reward
may keep a picture as long as it likes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Place:
    """Where a picture lies on its shelf."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Shelf:
    """The pictures of one submission, in the parent."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("easel-pictures")
        self._end = 0

    def put(self, picture: NDArray[np.uint8]) -> Place:
        """Copies a picture onto the shelf."""
        self._end = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        place = Place(self._end, picture.shape, picture.dtype.str)
        rest = np.ascontiguousarray(picture).reshape(-1).view(np.uint8).data
        if not picture.size:
            rest = memoryview(b"\0")  # there must be something to map
        while len(rest):
            written = os.pwrite(self.fd, rest, self._end)
            self._end += written
            rest = rest[written:]
        return place

    def close(self) -> None:
        """Lets go of the memory; workers that still map it keep their part."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


def take(fd: int, places: Sequence[Place]) -> list[NDArray[np.uint8]]:
    """In the worker: the pictures at ``places`` as read-only arrays over the shared memory."""
    first = min(place.offset for place in places) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = max(place.end for place in places) - first
    memory = mmap.mmap(fd, length, access=mmap.ACCESS_READ, offset=first)
    return [
        np.ndarray(place.shape, place.dtype, buffer=memory, offset=place.offset - first)  # keeps ``memory`` alive
        for place in places
    ]
