"""What a network answers about many rows: cut into micro-batches, put together again, with or without a trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from policy.trainable import Network, Trainable
from rl.config.section import Optimisation
from rl.process.progress import Progress, untold
from rl.trainer.engine import pick_device
from rl.trainer.ranks import Share
from rl.types import Rows

QueryT = TypeVar("QueryT", bound=Rows)
OutputsT = TypeVar("OutputsT")


def answer(
    trainable: Trainable[QueryT, OutputsT],
    network: Network,
    share: Share[QueryT],
    *,
    micro_batch: int,
    device: torch.device,
    did: Callable[[], None] = lambda: None,
    progress: Progress = untold,
) -> tuple[Tensor, ...]:
    """What ``network`` answers about a rank's share, one tensor for each thing that it tells.

    ``network`` is the trainable's module, or what stands for it: an engine around it, a frozen copy. ``did`` hears of
    each micro-batch.
    """
    parts = []
    cut = list(share.micro_batches(micro_batch))
    for rows, _ in cut:
        parts.append(network(*trainable.inputs(rows.to(device))))
        did()
        progress(len(parts), len(cut), "micro-batches")
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def frozen(trainable: Trainable[QueryT, OutputsT], config: Optimisation) -> Callable[[QueryT], OutputsT]:
    """The forward of a run that learns nothing: one process, no engine, no optimizer, the answers of a trainer."""
    device = pick_device()
    module = trainable.module.to(device=device, dtype=getattr(torch, config.dtype)).eval().requires_grad_(False)

    @torch.no_grad()
    def forward(rows: QueryT) -> OutputsT:
        whole = Share(rows, [True] * len(rows))
        return trainable.outputs(answer(trainable, module, whole, micro_batch=config.micro_batch, device=device))

    return forward
