"""Arrays in anonymous shared memory: written once, then mapped read-only by the worker of every reward.

A picture of 1024 px is 3 MB; through a pipe it would be copied five times per reward. The memory has no name and
belongs to whoever holds its descriptor or a mapping, so nothing is left behind however a process ends, and a reward
may keep an array as long as it likes.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.types import Prompt, Sample

_ALIGNMENT = 64  # bytes
_KEPT = 2  # used shelves, each as large as the largest submission it carried


@dataclass(frozen=True)
class Place:
    """Where an array lies on its shelf."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Shelf:
    """The arrays of one submission, in the parent."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("easel-pictures")
        self._end = 0

    def put(self, array: NDArray[Any]) -> Place:
        """Copies an array onto the shelf."""
        self._end = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        place = Place(self._end, array.shape, array.dtype.str)
        rest = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if not array.size:
            rest = memoryview(b"\0")  # there must be something to map
        while len(rest):
            written = os.pwrite(self.fd, rest, self._end)
            self._end += written
            rest = rest[written:]
        return place

    def clear(self) -> None:
        """The next array goes to the beginning; the memory stays."""
        self._end = 0

    def close(self) -> None:
        """Lets go of the memory; workers that still map it keep their part."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


class Shelves:
    """Used shelves wait here for the next submission: copying into fresh memory costs two to three times as much."""

    def __init__(self) -> None:
        self._free: deque[Shelf] = deque(maxlen=_KEPT)

    def take(self) -> Shelf:
        with suppress(IndexError):
            return self._free.pop()
        return Shelf()

    def give_back(self, shelf: Shelf) -> None:
        """Only if no process looks at its arrays any more."""
        shelf.clear()
        self._free.append(shelf)


class View:
    """In the worker: what lies at ``places``, read-only over the shared memory."""

    def __init__(self, fd: int, places: Sequence[Place]) -> None:
        first = min(place.offset for place in places) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = max(place.end for place in places) - first
        self._first = first
        self._arrays: dict[Place, NDArray[Any]] = {}
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE  # all pages at once: one by one they cost twice as much
        self._memory = mmap.mmap(fd, length, flags=flags, prot=mmap.PROT_READ, offset=first)

    def array(self, place: Place) -> NDArray[Any]:
        """The same object for the same place: samples that share a reference share it here too."""
        if place not in self._arrays:
            # ``frombuffer`` and not ``ndarray(buffer=...)``: only its arrays keep the mapping from being closed
            count = int(np.prod(place.shape))
            flat: NDArray[Any] = np.frombuffer(self._memory, place.dtype, count, place.offset - self._first)
            self._arrays[place] = flat.reshape(place.shape)
        return self._arrays[place]

    def close(self) -> bool:
        """False if somebody still holds an array: the memory then stays with them."""
        self._arrays.clear()
        try:
            self._memory.close()
        except BufferError:
            return False
        return True


@dataclass(frozen=True)
class Item:
    """A sample of which ``place`` holds the picture; arrays in the prompt's metadata are ``Place``s as well."""

    id: str
    group: str
    prompt: Prompt
    place: Place


def shelve(sample: Sample, shelf: Shelf, known: dict[int, Place]) -> Item:
    """``known``: arrays of metadata that are on the shelf already, by ``id``; a group shares its reference."""
    arrays = {key: value for key, value in sample.prompt.metadata.items() if _is_plain(value)}
    for array in arrays.values():
        if id(array) not in known:
            known[id(array)] = shelf.put(array)
    prompt = sample.prompt
    if arrays:
        places = {key: known[id(array)] for key, array in arrays.items()}
        prompt = replace(prompt, metadata={**prompt.metadata, **places})
    return Item(sample.id, sample.group, prompt, shelf.put(sample.picture))


def take_down(items: Sequence[Item], fd: int) -> tuple[list[Sample], View]:
    """The samples, their arrays read-only over the memory behind ``fd``, and the view to close after use."""
    view = View(fd, [place for item in items for place in _places(item)])
    return [Sample(item.id, item.group, _prompt(item, view), view.array(item.place)) for item in items], view


def _is_plain(value: object) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "biufc"


def _places(item: Item) -> Iterator[Place]:
    yield item.place
    yield from (value for value in item.prompt.metadata.values() if isinstance(value, Place))


def _prompt(item: Item, view: View) -> Prompt:
    arrays: dict[str, Any] = {
        key: view.array(value) for key, value in item.prompt.metadata.items() if isinstance(value, Place)
    }
    return replace(item.prompt, metadata={**item.prompt.metadata, **arrays}) if arrays else item.prompt
