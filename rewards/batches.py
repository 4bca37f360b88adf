"""Indices in batches of at most so many: of samples whose groups stay together, or of whatever has the same key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby
from typing import Protocol


class Grouped(Protocol):
    """A sample, or what will become one."""

    @property
    def group(self) -> str: ...


def batches_by_group(samples: Sequence[Grouped], size: int, *, whole_groups: bool = False) -> list[list[int]]:
    """Indices into ``samples``, in order, in batches of at most ``size``; neighbours of one group share a batch.

    A group larger than ``size`` is divided, unless ``whole_groups``: then it is a batch of its own, however large.
    Four groups of two, ``size=4`` -> ``[[0, 1, 2, 3], [4, 5, 6, 7]]``; ``size=3`` -> four batches of two.
    """
    batches: list[list[int]] = []
    for _, members in groupby(range(len(samples)), key=lambda index: samples[index].group):
        group = list(members)
        step = len(group) if whole_groups else size
        for part in (group[start : start + step] for start in range(0, len(group), step)):
            if batches and len(batches[-1]) + len(part) <= size:
                batches[-1].extend(part)
            else:
                batches.append(part)
    return batches


def batches_by_key(keys: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Indices in batches of at most ``size`` with equal keys. A picture's result then never depends on its company.

    ``batches_by_key(["a", "b", "a", "a"], 2)`` -> ``[0, 2]``, ``[3]``, ``[1]``.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
