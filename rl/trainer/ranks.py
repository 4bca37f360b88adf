"""Which rows of a global batch a rank works on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rl.types import Rows

RowsT = TypeVar("RowsT", bound=Rows)


@dataclass(frozen=True)
class Share(Generic[RowsT]):
    """One rank's rows of a batch, and which of them count: the rest are repeats of the batch's last row."""

    rows: RowsT
    real: Sequence[bool]

    def micro_batches(self, most: int) -> Iterator[tuple[RowsT, Sequence[bool]]]:
        """At most ``most`` rows at a time."""
        for start in range(0, len(self.real), most):
            part = range(start, min(start + most, len(self.real)))
            yield self.rows.take(part), [self.real[row] for row in part]


def shares(rows: RowsT, world: int) -> list[Share[RowsT]]:
    """The rows in order, cut into one share for each of ``world`` ranks.

    Every rank gets equally many (collectives run inside the model under ZeRO-3), so the last ranks may repeat the last
    row.
    """
    size = len(rows)
    if world == 1:
        return [Share(rows, [True] * size)]
    per_rank = math.ceil(size / world)
    mine = [range(rank * per_rank, (rank + 1) * per_rank) for rank in range(world)]
    return [Share(rows.take([min(row, size - 1) for row in part]), [row < size for row in part]) for part in mine]
