"""The proof that a follower works with the weights that it was given: every number of them, exactly.

Log-probs alone are blind where it matters: in bfloat16 those of weights one step old can lie within what numerics make
of new ones. So the bits of the live parameters are added up and compared with what was published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from policy.checksums import MODULUS, exact_sum
from policy.trainable import WeightStream
from rollout.weights import SyncError


@dataclass(frozen=True)
class LiveSum:
    """Of one parameter that a network computes with: which tensors of its checkpoint it holds, three where an engine
    has packed q, k and v, and the exact sum of its bits."""

    names: tuple[str, ...]
    dtype: torch.dtype
    total: int


class PublishedSums(Protocol):
    """What was published."""

    version: int

    def sums(self, part: str, dtype: torch.dtype) -> Mapping[str, int]:
        """Name -> exact sum of each tensor, once it is rounded to ``dtype``."""

    def source(self, part: str) -> str:
        """Where the part was published."""


class SentSums:
    """Of weights on their way, from whoever trains them straight into a follower."""

    def __init__(self, weights: WeightStream, version: int) -> None:
        self.version = version
        self._weights = weights
        self._sums: dict[torch.dtype, Mapping[str, int]] = {}

    def sums(self, part: str, dtype: torch.dtype) -> Mapping[str, int]:
        if dtype not in self._sums:
            self._sums[dtype] = {name: exact_sum(value.to(dtype)) for name, value in self._weights.tensors()}
        return self._sums[dtype]

    def source(self, part: str) -> str:
        return "the trainer"


def sums_of(live: Iterable[tuple[str | tuple[str, ...], Tensor]]) -> list[LiveSum]:
    """Of parameters under the names of their checkpoint: ``module.state_dict().items()``."""
    return [
        LiveSum((names,) if isinstance(names, str) else names, value.dtype, exact_sum(value)) for names, value in live
    ]


def prove(part: str, live: Sequence[LiveSum], published: PublishedSums) -> None:
    """Raises: SyncError naming the first parameter that holds something else, or the first tensor that none holds."""
    version, held = published.version, set[str]()
    for one in live:
        expected = published.sums(part, one.dtype)
        strange = next((name for name in one.names if name not in expected), None)
        if strange is not None:
            raise SyncError(f"weights of version {version}: the engine holds '{strange}', which {part} does not have.")
        if one.total != sum(expected[name] for name in one.names) % MODULUS:
            raise SyncError(
                f"weights of version {version}: the live parameter '{_told(one.names)}' of {part} is not what "
                f"{published.source(part)} holds (the exact sums of the bits differ), so the engine must not be "
                "asked; load them again."
            )
        held.update(one.names)
    if live and (missing := sorted(expected.keys() - held)):
        raise SyncError(
            f"weights of version {version}: no live parameter of {part} holds '{missing[0]}' of "
            f"{published.source(part)}."
        )


def _told(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (packed of {len(names)})"
