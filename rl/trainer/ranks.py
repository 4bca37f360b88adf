"""Which rows of a global batch a rank works on, and how the ranks' results become one again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class MicroRows:
    """Rows of the global batch for one pass, and which of them count: the rest are repeats of the last row."""

    rows: Sequence[int]
    real: Sequence[bool]


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the batch."""

    rank: int
    world: int

    @classmethod
    def here(cls) -> Ranks:
        return cls(dist.get_rank(), dist.get_world_size())

    def micro_batches(self, size: int, most: int) -> list[MicroRows]:
        """This rank's rows of a batch of ``size``, at most ``most`` at a time.

        Every rank gets equally many (collectives run inside the model under ZeRO-3), so the last ranks may repeat the
        last row.
        """
        per_rank = math.ceil(size / self.world)
        first = self.rank * per_rank
        rows = range(first, first + per_rank)
        parts = [rows[start : start + most] for start in range(0, per_rank, most)]
        return [MicroRows([min(row, size - 1) for row in part], [row < size for row in part]) for part in parts]

    def all_rows(self, mine: Tensor, size: int) -> Tensor:
        """All ranks' slices in row order, without the repeated rows. A collective call."""
        if self.world == 1:
            return mine
        slices = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(slices, mine.contiguous())
        return torch.cat(slices)[:size]
