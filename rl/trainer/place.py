"""Weights that are on the accelerator only while they are at work: its memory is lent to whoever works next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn

from policy.trainable import Network

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


def place_of(
    reference: Network | None, device: torch.device, *, stays: bool
) -> Callable[[], AbstractContextManager[object]]:
    """Where the frozen reference is while it is asked: on ``device`` for good, or on a visit there."""
    if not isinstance(reference, nn.Module):  # none, or the trained module itself
        return nullcontext
    if stays:
        reference.to(device)
        return nullcontext
    return partial(visiting, reference, device)
