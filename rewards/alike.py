"""Which pictures go through a model together: only those that share a key, so that none is padded for another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence


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
