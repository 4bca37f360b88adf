"""From vectors to codes and back: three ways to quantise, each differentiable in what it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Quantised(NamedTuple):
    """``vectors``: those of the codes, with the gradient of the vectors that came in (straight-through)."""

    codes: Tensor  # (...,) int64
    vectors: Tensor  # (..., C)
    loss: Tensor  # scalar: draws codes and vectors together; 0 where there is nothing to learn


class Quantiser(Protocol):
    """(..., C) vectors -> codes in 0..``size`` - 1. Always the nearest, never sampled."""

    size: int
    width: int
    """C."""

    def __call__(self, vectors: Tensor, /) -> Quantised: ...


class Fsq(nn.Module):
    """Finite scalar quantisation (arXiv 2309.15505): each number is bounded and rounded to one of its levels; the code
    is the number that they spell. ``Fsq((3, 5))`` has 15 codes of 2 numbers and no codebook to learn."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels, self.width, self.size = tuple(levels), len(levels), math.prod(levels)
        steps = [math.prod(self.levels[:place]) for place in range(self.width)]
        self.register_buffer("levels_C", torch.tensor(self.levels), persistent=False)
        self.register_buffer("steps_C", torch.tensor(steps), persistent=False)

    levels_C: Tensor
    steps_C: Tensor

    def forward(self, vectors: Tensor) -> Quantised:
        half_C = self.levels_C // 2
        bounded = self._bounded(vectors)
        rounded = bounded.round()
        codes = ((rounded.long() + half_C) * self.steps_C).sum(-1)
        return Quantised(codes, (bounded + (rounded - bounded).detach()) / half_C, vectors.new_zeros(()))

    def _bounded(self, vectors: Tensor) -> Tensor:
        """Between the lowest and the highest level; of an even number of levels one more lies below 0 than above."""
        reach_C = (self.levels_C - 1) * (1 + 1e-3) / 2
        even_C = (self.levels_C % 2 == 0).to(vectors.dtype) / 2
        return (vectors + (even_C / reach_C).atanh()).tanh() * reach_C - even_C


class NearestCode(nn.Module):
    """Vector quantisation (arXiv 1711.00937): the nearest row of a table. ``pull`` weighs how far the vectors are drawn
    to their codes beside the codes to them."""

    def __init__(self, codes: int, width: int, pull: float = 0.25) -> None:
        super().__init__()
        self.size, self.width, self.pull = codes, width, pull
        self.table = nn.Embedding(codes, width)

    def forward(self, vectors: Tensor) -> Quantised:
        flat = vectors.reshape(-1, self.width)
        codes = torch.cdist(flat, self.table.weight).argmin(-1).view(vectors.shape[:-1])
        return _straight_through(vectors, codes, self.table(codes), self.pull)


class SimVq(nn.Module):
    """SimVQ (arXiv 2411.02038) by cosine, as in TA-Tok: the codebook is one linear map of a table that is not learnt
    itself, and vectors and codes have length 1."""

    def __init__(self, codes: int, width: int, pull: float = 0.25) -> None:
        super().__init__()
        self.size, self.width, self.pull = codes, width, pull
        self.table = nn.Embedding(codes, width)
        self.table.weight.requires_grad_(False)
        self.map = nn.Linear(width, width)

    def forward(self, vectors: Tensor) -> Quantised:
        vectors = functional.normalize(vectors, dim=-1)
        codebook_KC = functional.normalize(self.map(self.table.weight), dim=-1)
        codes = (vectors @ codebook_KC.T).argmax(-1)
        return _straight_through(vectors, codes, codebook_KC[codes], self.pull)


def _straight_through(vectors: Tensor, codes: Tensor, chosen: Tensor, pull: float) -> Quantised:
    loss = functional.mse_loss(chosen, vectors.detach()) + pull * functional.mse_loss(vectors, chosen.detach())
    return Quantised(codes, vectors + (chosen - vectors).detach(), loss)
