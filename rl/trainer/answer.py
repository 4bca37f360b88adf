"""What a network answers about many rows: cut into micro-batches, put together again, with or without a trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from policy.trainable import Network, Trainable
from rl.config.schema import TrainConfig
from rl.process.progress import Progress, untold
from rl.trainer.engine import pick_device
from rl.trainer.ranks import Ranks
from rl.types import Rows

QueryT = TypeVar("QueryT", bound=Rows)
OutputsT = TypeVar("OutputsT")


def answer(
    trainable: Trainable[QueryT, OutputsT],
    network: Network,
    rows: QueryT,
    *,
    ranks: Ranks,
    micro_batch: int,
    device: torch.device,
    progress: Progress = untold,
) -> OutputsT:
    """``network`` is the trainable's module, or what stands for it: an engine around it, a frozen copy."""
    parts = []
    cut = ranks.micro_batches(len(rows), micro_batch)
    for part in cut:
        parts.append(network(*trainable.inputs(rows.take(part.rows).to(device))))
        progress(len(parts), len(cut), "micro-batches")
    columns = (ranks.all_rows(torch.cat(column), len(rows)) for column in zip(*parts, strict=True))
    return trainable.outputs(tuple(columns))


def frozen(trainable: Trainable[QueryT, OutputsT], config: TrainConfig) -> Callable[[QueryT], OutputsT]:
    """The forward of a run that learns nothing: one process, no engine, no optimizer, the answers of a trainer."""
    device = pick_device()
    module = trainable.module.to(device=device, dtype=getattr(torch, config.dtype)).eval().requires_grad_(False)

    @torch.no_grad()
    def forward(rows: QueryT) -> OutputsT:
        return answer(
            trainable, module, rows, ranks=Ranks(rank=0, world=1), micro_batch=config.micro_batch, device=device
        )

    return forward
