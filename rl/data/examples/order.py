"""In which order examples are learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.data.examples.contract import Example, Examples


@dataclass(frozen=True)
class NumberedStream:
    """Examples by their number: endless ones as they come, others in a seeded permutation of each epoch. A pure
    function of the step, so there is no state."""

    examples: Examples
    per_step: int
    seed: int

    def at(self, step: int) -> list[Example]:
        return [
            self.examples[self._place(number)] for number in range(step * self.per_step, (step + 1) * self.per_step)
        ]

    def _place(self, number: int) -> int:
        if self.examples.endless:
            return number
        epoch, place = divmod(number, len(self.examples))
        return int(_shuffled(self.seed, epoch, len(self.examples))[place])

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(size)
