"""What a decoder that learns is asked: noisy latents, how noisy they are, and whose hidden states lead back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from rl.types import Rows


@dataclass(frozen=True)
class SharedHidden:
    """Hidden states of B token sequences, each of which many rows point at: no row holds them of its own."""

    values_BSD: Tensor

    def to(self, device: object) -> SharedHidden:
        return SharedHidden(self.values_BSD.to(device))  # type: ignore[call-overload]


@dataclass(frozen=True)
class SharedReferences:
    """Latents of the pictures that B token sequences change, zeros where ``has_B`` is False."""

    values_BChw: Tensor
    has_B: Tensor

    def to(self, device: object) -> SharedReferences:
        return SharedReferences(self.values_BChw.to(device), self.has_B.to(device))  # type: ignore[call-overload]

    def take(self, sequences: Tensor) -> SharedReferences:
        return SharedReferences(self.values_BChw[sequences], self.has_B[sequences])


@dataclass(frozen=True)
class FlowQuery(Rows):
    """N pairs of a picture and a timestep.

    Example: 2 token sequences x 3 renders x 2 timesteps -> ``states`` (12, 32, 4, 4), ``hidden`` of 2 sequences,
    ``sequence_N`` 0 0 0 0 0 0 1 1 1 1 1 1.
    """

    states: Tensor  # (N, C, h, w) float32
    timestep_N: Tensor  # float32, in [0, 1000], as the network is told
    sequence_N: Tensor  # int64: whose hidden states
    hidden: SharedHidden
    references: SharedReferences | None = None  # of the same sequences; None: none changes a picture

    def take(self, rows: Sequence[int]) -> Self:
        """With the hidden states that these rows point at, and no others."""
        taken = super().take(rows)
        used, sequence_N = taken.sequence_N.unique(return_inverse=True)
        references = None if self.references is None else self.references.take(used)
        hidden = SharedHidden(self.hidden.values_BSD[used])
        return replace(taken, sequence_N=sequence_N, hidden=hidden, references=references)


@dataclass(frozen=True)
class Flow:
    """What the network answers: ``flow`` (N, C, h, w), noise minus clean latents."""

    flow: Tensor
