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

from rl.data.pictures import Picture
from rl.types import Prompt, Sample, WrittenAnswer

AnyArray = NDArray[Any]
"""Of numbers of any kind: pictures are uint8, what a prompt carries may be anything."""

_ALIGNMENT = 64  # bytes
_MOST_FREE = 2  # memories, each as large as the largest submission it carried


@dataclass(frozen=True)
class SharedArray:
    """Where an array lies in its shared memory, and what it is."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class SharedMemory:
    """The arrays of one submission, in the parent, which writes them."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("easel-pictures")
        self._end = 0

    def put(self, array: AnyArray) -> SharedArray:
        """Copies an array behind the others."""
        self._end = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        put = SharedArray(self._end, array.shape, array.dtype.str)
        rest = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if not array.size:
            rest = memoryview(b"\0")  # there must be something to map
        while len(rest):
            written = os.pwrite(self.fd, rest, self._end)
            self._end += written
            rest = rest[written:]
        return put

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


class FreeList:
    """Used memory that waits for the next submission: copying into fresh memory costs two to three times as much."""

    def __init__(self) -> None:
        self._free: deque[SharedMemory] = deque(maxlen=_MOST_FREE)

    def take(self) -> SharedMemory:
        with suppress(IndexError):
            return self._free.pop()
        return SharedMemory()

    def give_back(self, memory: SharedMemory) -> None:
        """Only if no process looks at its arrays any more."""
        memory.clear()
        self._free.append(memory)


class MappedMemory:
    """The arrays of one call in a worker: only their part of the memory is mapped."""

    def __init__(self, fd: int, arrays: Sequence[SharedArray]) -> None:
        first = min(array.offset for array in arrays) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = max(array.end for array in arrays) - first
        self._first = first
        self._arrays: dict[SharedArray, AnyArray] = {}
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE  # all pages at once: one by one they cost twice as much
        self._memory = mmap.mmap(fd, length, flags=flags, prot=mmap.PROT_READ, offset=first)

    def array(self, shared: SharedArray) -> AnyArray:
        """The same object for the same place: samples that share a reference share it here too."""
        if shared not in self._arrays:
            # ``frombuffer`` and not ``ndarray(buffer=...)``: only its arrays keep the mapping from being closed
            count = int(np.prod(shared.shape))
            flat: AnyArray = np.frombuffer(self._memory, shared.dtype, count, shared.offset - self._first)
            self._arrays[shared] = flat.reshape(shared.shape)
        return self._arrays[shared]

    def close(self) -> bool:
        """False if somebody still holds an array: the memory then stays with them."""
        self._arrays.clear()
        try:
            self._memory.close()
        except BufferError:
            return False
        return True


@dataclass(frozen=True)
class SharedSample:
    """A sample whose picture lies in shared memory, as do its prompt's pictures and the arrays in its metadata."""

    id: str
    group: str
    prompt: Prompt
    picture: SharedArray
    prompt_pictures: tuple[SharedArray, ...] = ()
    """In place of those that ``prompt`` has lost."""
    answer: WrittenAnswer | None = None


def to_shared(sample: Sample, memory: SharedMemory, written: dict[int, SharedArray]) -> SharedSample:
    """``written``: arrays of prompts that are in the memory already, by ``id``; a group shares its pictures.

    The pictures of prompts must be in memory (``Picture.in_memory``).
    """
    arrays = {key: value for key, value in sample.prompt.metadata.items() if _is_plain(value)}
    pictures = [picture.source for picture in sample.prompt.pictures if isinstance(picture.source, np.ndarray)]
    for array in (*arrays.values(), *pictures):
        if id(array) not in written:
            written[id(array)] = memory.put(array)
    prompt = _with_metadata(sample.prompt, {key: written[id(array)] for key, array in arrays.items()})
    prompt = replace(prompt, pictures=()) if pictures else prompt
    shown = tuple(written[id(array)] for array in pictures)
    return SharedSample(sample.id, sample.group, prompt, memory.put(sample.picture), shown, sample.answer)


def from_shared(samples: Sequence[SharedSample], fd: int) -> tuple[list[Sample], MappedMemory]:
    """The samples, their arrays read-only over the memory behind ``fd``, and the mapping to close after use."""
    mapped = MappedMemory(fd, [array for sample in samples for array in _arrays(sample)])
    return [_from_shared(sample, mapped) for sample in samples], mapped


def _from_shared(sample: SharedSample, mapped: MappedMemory) -> Sample:
    metadata = sample.prompt.metadata
    arrays = {key: mapped.array(value) for key, value in metadata.items() if isinstance(value, SharedArray)}
    prompt = _with_metadata(sample.prompt, arrays)
    if sample.prompt_pictures:
        prompt = replace(prompt, pictures=tuple(Picture(mapped.array(one)) for one in sample.prompt_pictures))
    return Sample(sample.id, sample.group, prompt, mapped.array(sample.picture), sample.answer)


def _is_plain(value: object) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "biufc"


def _arrays(sample: SharedSample) -> Iterator[SharedArray]:
    yield sample.picture
    yield from sample.prompt_pictures
    yield from (value for value in sample.prompt.metadata.values() if isinstance(value, SharedArray))


def _with_metadata(prompt: Prompt, arrays: dict[str, SharedArray] | dict[str, AnyArray]) -> Prompt:
    return replace(prompt, metadata={**prompt.metadata, **arrays}) if arrays else prompt
