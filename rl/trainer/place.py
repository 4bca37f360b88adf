"""Weights that are on the accelerator only while they are at work: its memory is lent to whoever works next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

HOME = torch.device("cpu")


@contextmanager
def visiting(module: nn.Module, device: torch.device) -> Iterator[None]:
    """``module`` on ``device`` inside, in the machine's own memory afterwards, also after a failure. Nothing moves
    where both are the same.
    """
    module.to(device)
    try:
        yield
    finally:
        module.to(HOME)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # or nobody but torch could have the memory that is free now
