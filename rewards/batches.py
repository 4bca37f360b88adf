"""Samples -> calls of a reward: at most so many at a time, groups kept together where they fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol


class Grouped(Protocol):
    """A sample, or what will become one."""

    @property
    def group(self) -> str: ...


def cut(samples: Sequence[Grouped], most: int, *, whole_groups: bool = False) -> list[list[int]]:
    """Indices into ``samples``, in order, in runs of at most ``most``; consecutive samples of one group share a run.

    A group larger than ``most`` is divided, unless ``whole_groups``: then it is a run of its own, however large.
    Four groups of two, ``most=4`` -> ``[[0, 1, 2, 3], [4, 5, 6, 7]]``; ``most=3`` -> four runs of two.
    """
    runs: list[list[int]] = []
    for group in _groups(samples):
        step = len(group) if whole_groups else most
        for piece in (group[start : start + step] for start in range(0, len(group), step)):
            if runs and len(runs[-1]) + len(piece) <= most:
                runs[-1].extend(piece)
            else:
                runs.append(piece)
    return runs


def _groups(samples: Sequence[Grouped]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, sample in enumerate(samples):
        if index and sample.group == samples[index - 1].group:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def alike(keys: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Indices in batches of at most ``size`` with equal keys. A picture's result then never depends on its company.

    ``alike(["a", "b", "a", "a"], 2)`` -> ``[0, 2]``, ``[3]``, ``[1]``.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
