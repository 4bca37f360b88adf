"""The rows and the loss of an autoencoder that learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.decoder import Decoder
from policy.supervised.autoencoder import Reconstruction, ReconstructionQuery
from rl.algorithm.terms import Control, Shown, Term
from rl.data.examples.contract import Example
from rl.supervised.rows import as_pixels
from rollout.seeds import sample_seed

_LATENTS = 1e-3  # weight of their mean square, which keeps them near 0


@dataclass(frozen=True, kw_only=True)
class ReconstructionBatch(ReconstructionQuery):
    """Pictures that are to come back as they are."""

    share_B1: Tensor | None = None  # 1 / B of the whole batch; the objective makes it


@dataclass
class ReconstructionRows:
    """Pictures of examples, and noise that is a hash of the run's seed, the step and the row."""

    decoder: Decoder
    seed: int

    @property
    def side(self) -> int:
        return self.decoder.picture_side

    def problem(self, example: Example) -> str | None:
        """Prompts are not read."""
        return "it is text alone, and an autoencoder learns from pictures" if example.picture is None else None

    def __call__(self, examples: Sequence[Example], pixels_BHW3: NDArray[np.uint8], step: int) -> ReconstructionBatch:
        seeds = [sample_seed(self.seed, step, "supervised", row) for row in range(len(examples))]
        shape = self.decoder.latent_shape
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return ReconstructionBatch(as_pixels(pixels_BHW3), torch.stack(noise))


@dataclass(frozen=True)
class ReconstructionObjective:
    """Mean absolute and mean square error of the pixels: the one for edges, the other for what is far off."""

    @property
    def reference(self) -> frozenset[str]:
        return frozenset()

    @property
    def controls(self) -> Mapping[str, Control]:
        return {}

    def prepare(self, batch: ReconstructionBatch) -> ReconstructionBatch:
        return replace(batch, share_B1=torch.full((len(batch), 1), 1.0 / len(batch)))

    def referred(self, rows: ReconstructionBatch, *, moving: bool = False) -> bool:
        return True

    def refer(
        self, rows: ReconstructionBatch, reference: Reconstruction, *, moving: bool = False
    ) -> ReconstructionBatch:
        return rows

    def weights(self, rows: ReconstructionBatch) -> Tensor:
        if rows.share_B1 is None:
            raise ValueError("these rows have no weights: call prepare() on the whole batch first")
        return rows.share_B1

    def __call__(self, outputs: Reconstruction, rows: ReconstructionBatch) -> Mapping[str, Term]:
        error = (outputs.pixels.float() - rows.pixels).flatten(1)
        wrong_B1 = (error.abs().mean(1) + error.square().mean(1))[:, None]
        large_B1 = outputs.latents.float().square().flatten(1).mean(1, keepdim=True)
        shown = {"reconstruction": Shown(wrong_B1.detach(), "sum"), "latents": Shown(large_B1.detach(), "sum")}
        return {"reconstruction": Term(wrong_B1 + _LATENTS * large_B1, shown)}
