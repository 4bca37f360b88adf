"""Train and held-out halves of what prompts are made of, cut once and for all, so that nothing crosses over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

import numpy as np

from rl.types import UserError

Split = Literal["train", "heldout"]
_TRAIN_SHARE, _SEED = 0.8, 11

T = TypeVar("T")


def half(parts: Sequence[T], split: Split, where: str) -> list[T]:
    """Four fifths of the parts for ``train``, the others ``heldout``. Raises UserError on another split."""
    if split not in get_args(Split):
        raise UserError(f"{where}: split is {split!r}; it must be {' or '.join(map(repr, get_args(Split)))}")
    order = np.random.default_rng(_SEED).permutation(len(parts))
    edge = round(len(parts) * _TRAIN_SHARE)
    chosen = order[:edge] if split == "train" else order[edge:]
    return [parts[index] for index in sorted(chosen)]
