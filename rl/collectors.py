"""Who collects experience, and when: one contract for runs that wait for their samples and runs that don't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from rl.collect import Collect
from rl.data.stream import PromptStream
from rl.types import Experience


class Collector(Protocol):
    """Experience for the steps ``first <= step < last``, in order, one at a time, whole.

    A consumer may stop early; what it leaves is collected anew after a resume, from the same seeds.
    """

    def collect(self, first: int, last: int) -> Iterator[Experience]: ...


@dataclass
class Serial:
    """Each step is collected with the weights that the step before has learnt: exactly on-policy."""

    turn: Collect
    stream: PromptStream
    seed: int

    def collect(self, first: int, last: int) -> Iterator[Experience]:
        for step in range(first, last):
            yield self.turn(step, self.stream.at(step), self.seed)
