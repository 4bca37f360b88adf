"""Group sizes: how a step's samples are shared among its prompts, given how likely each is to be solved.

Each rule is a pure function of P success rates, the ``units`` that there are to share and the samples in a unit; it
returns units for each prompt, at least 1, which add up to ``units``.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rl.config.declared import declares
from rl.types import UserError

GroupSizes = Callable[[Sequence[float], int, int], Sequence[int]]
PromptT = TypeVar("PromptT")
_SURE = 0.02  # a rate is an estimate: nothing is certain to pass or to fail


def knapsack(success: Sequence[float], units: int, unit: int) -> list[int]:
    """The most of sum_i (1 - p_i^n_i - (1 - p_i)^n_i) p_i (1 - p_i)^2: the chance of a gradient times what it brings,
    Knapsack RL (arXiv 2509.25849, its task value). Gains of further units fall, so the greedy choice is the best.

    ``knapsack([0.9, 0.3], 4, 4) == [1, 3]``: the hard prompt gets 12 of 16 samples.
    """
    rates = [min(max(p, _SURE), 1 - _SURE) for p in success]

    def gain(place: int, held: int) -> float:
        p = rates[place]
        chance = [1 - p**count - (1 - p) ** count for count in (held * unit, (held + 1) * unit)]
        return (chance[1] - chance[0]) * p * (1 - p) ** 2

    return _greedy(gain, len(rates), units)


@declares(positive=("floor",))
def neyman(success: Sequence[float], units: int, unit: int, *, floor: float = 0.05) -> list[int]:
    """n_i proportional to sqrt(p_i (1 - p_i)) + floor: Neyman's allocation (1934), by which the means of
    strata are known best from a fixed number of samples. Rounded by the method of equal proportions.
    """
    wanted = [math.sqrt(max(p * (1 - p), 0.0)) + floor for p in success]
    return _greedy(lambda place, held: wanted[place] / math.sqrt(held * (held + 1)), len(wanted), units)


@dataclass(frozen=True)
class SharedOut:
    """A step's samples by a rule: a prompt that gets several units stands there several times."""

    rule: GroupSizes
    unit: int
    """Samples."""
    group_size: int
    """Of a prompt on average."""

    def groups(self, prompts: int) -> int:
        """Units that are shared among so many."""
        return prompts * self.group_size // self.unit

    def repeated(self, prompts: Sequence[PromptT], success: Callable[[PromptT], float]) -> list[PromptT]:
        """Raises: UserError if the rule's answer is none of units."""
        units = self.groups(len(prompts))
        sizes = self._checked(self.rule([success(one) for one in prompts], units, self.unit), units)
        return [one for one, size in zip(prompts, sizes, strict=True) for _ in range(size)]

    def _checked(self, sizes: Sequence[int], units: int) -> Sequence[int]:
        if not all(isinstance(one, int) and one >= 1 for one in sizes) or sum(sizes) != units:
            raise UserError(
                f"groups.sizes answered {sizes!r}; it must answer a whole number of at least 1 for each prompt, "
                f"{units} together (units of {self.unit} samples)"
            )
        return sizes


def _greedy(gain: Callable[[int, int], float], count: int, units: int) -> list[int]:
    """One unit each, then one after another to whom it brings most; of equals to the first."""
    sizes = [1] * count
    waiting = [(-gain(place, 1), place) for place in range(count)]
    heapq.heapify(waiting)
    for _ in range(units - count):
        _, place = heapq.heappop(waiting)
        sizes[place] += 1
        heapq.heappush(waiting, (-gain(place, sizes[place]), place))
    return sizes
