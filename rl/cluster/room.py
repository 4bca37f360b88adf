"""Whether workers of several kinds fit onto a cluster's machines together, each of them whole on one machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NEARLY = 1e-6
_MOST_TRIED = 2_000_000  # arrangements, some seconds; beyond that whoever waits for a place finds out


@dataclass(frozen=True)
class Kind:
    """``count`` workers, and what each of them needs."""

    word: str
    count: int
    cpus: float
    gpus: float

    @property
    def size(self) -> tuple[float, float]:
        return self.gpus, self.cpus


@dataclass(frozen=True)
class Machine:
    """What it has in Ray's books."""

    cpus: float
    gpus: float

    def holds(self, kinds: Sequence[Kind], counts: Sequence[int]) -> bool:
        """So many of each kind. A part of a GPU is of one GPU; of two kinds that ask for parts their sum is taken,
        which is never too strict."""
        cpus = sum(kind.cpus * count for kind, count in zip(kinds, counts, strict=True))
        whole = sum(math.ceil(kind.gpus) * count for kind, count in zip(kinds, counts, strict=True) if kind.gpus >= 1)
        parts = [(kind.gpus, count) for kind, count in zip(kinds, counts, strict=True) if 0 < kind.gpus < 1]
        shared = max((math.ceil(count / math.floor(1 / part + _NEARLY)) for part, count in parts), default=0)
        shared = max(shared, math.ceil(sum(part * count for part, count in parts) - _NEARLY))
        return cpus <= self.cpus + _NEARLY and whole + shared <= self.gpus + _NEARLY


def left_over(kinds: Sequence[Kind], machines: Sequence[Machine]) -> tuple[int, ...]:
    """Of each kind how many find no place, in an arrangement that leaves as few as possible; all 0 where it would take
    too long to know better."""
    wanted = tuple(kind.count for kind in kinds)
    if _fit_one_by_one(kinds, machines):
        return (0,) * len(kinds)
    reached, tried = {(0,) * len(kinds)}, 0
    known = {machine: list(_held(machine, kinds)) for machine in set(machines)}
    for held in map(known.__getitem__, machines):
        tried += len(reached) * len(held)
        if tried > _MOST_TRIED:
            return (0,) * len(kinds)
        reached = _most({tuple(map(min, wanted, map(sum, zip(a, b, strict=True)))) for a in reached for b in held})
    best = max(reached, key=lambda placed: (sum(placed), placed))
    return tuple(all_of - placed for all_of, placed in zip(wanted, best, strict=True))


def _fit_one_by_one(kinds: Sequence[Kind], machines: Sequence[Machine]) -> bool:
    """The largest first, each where the next one fits: quick, and mostly enough."""
    counts = [[0] * len(kinds) for _ in machines]
    for place in sorted(range(len(kinds)), key=lambda place: kinds[place].size, reverse=True):
        left = kinds[place].count
        for machine, here in zip(machines, counts, strict=True):
            while left:
                here[place] += 1
                if not machine.holds(kinds, here):
                    here[place] -= 1
                    break
                left -= 1
        if left:
            return False
    return True


def _held(machine: Machine, kinds: Sequence[Kind], first: Sequence[int] = ()) -> Iterator[tuple[int, ...]]:
    """All that it can hold beside the ``first``: of the last kind as many as there is room for."""
    rest = (0,) * (len(kinds) - len(first) - 1)
    most = -1
    for count in range(kinds[len(first)].count + 1):
        if not machine.holds(kinds, (*first, count, *rest)):
            break
        most = count
        if rest:
            yield from _held(machine, kinds, (*first, count))
    if not rest:
        yield (*first, most)


def _most(reached: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Without those that place fewer of the last kind and as many of the others."""
    best: dict[tuple[int, ...], int] = {}
    for placed in reached:
        best[placed[:-1]] = max(placed[-1], best.get(placed[:-1], 0))
    return {(*others, last) for others, last in best.items()}
