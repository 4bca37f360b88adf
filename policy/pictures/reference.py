"""What the decoder sees of a picture that is to be changed, beside the tokens: its latents (BLIP3o-NEXT-edit).

Two ways, each on its own or both: as vectors that the transformer attends to behind the hidden states, and beside the
noise, so that the transformer paints the left half of a picture twice as wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policy.conditions import ATTENDED, BESIDE_NOISE


class ReferenceLatents(nn.Module):
    """``connector``: latent channels -> caption channels, as the connector of the hidden states; ``None``: references
    are not attended to. ``beside_noise``: they stand to the right of the noise."""

    def __init__(self, connector: nn.Sequential | None, *, beside_noise: bool) -> None:
        super().__init__()
        if connector is None and not beside_noise:
            raise ValueError("a decoder that sees references sees them in one way at least")
        self.connector, self.beside_noise = connector, beside_noise

    @property
    def ways(self) -> tuple[str, ...]:
        return tuple(way for way, on in ((ATTENDED, self.connector), (BESIDE_NOISE, self.beside_noise)) if on)

    def condition(self, condition_BND: Tensor, latents_BChw: Tensor) -> Tensor:
        """With the reference's vectors, row by row, behind the others."""
        if self.connector is None:
            return condition_BND
        return torch.cat([condition_BND, self.connector(latents_BChw.flatten(2).transpose(1, 2))], 1)

    def without(self, condition_BND: Tensor, latents_BChw: Tensor) -> Tensor:
        """The same for the picture that guidance leads away from: zeros behind the connector."""
        if self.connector is None:
            return condition_BND
        places = latents_BChw.shape[2] * latents_BChw.shape[3]
        return torch.cat(
            [condition_BND, condition_BND.new_zeros(len(condition_BND), places, condition_BND.shape[2])], 1
        )

    def widened(self, noisy_BChw: Tensor, latents_BChw: Tensor) -> Tensor:
        """What the transformer gets."""
        return torch.cat([noisy_BChw, latents_BChw], -1) if self.beside_noise else noisy_BChw
