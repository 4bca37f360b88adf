"""The autoencoder as a trained network: a picture to latents and back, with a little noise on the way."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from policy.lora.adapters import StoredWeight
from policy.trainable import Adapter, Gathered, Network, WeightStream
from rl.types import Rows

if TYPE_CHECKING:
    from diffusers import AutoencoderDC


@dataclass(frozen=True)
class ReconstructionQuery(Rows):
    """B pictures, and the noise that is put on their latents.

    Example: ``pixels`` (24, 3, 64, 64), ``noise`` (24, 32, 4, 4).
    """

    pixels: Tensor  # in [-1, 1]
    noise: Tensor  # standard normal


@dataclass(frozen=True)
class Reconstruction:
    """What the network makes of them."""

    pixels: Tensor
    latents: Tensor


class AutoencoderNetwork:
    """The third part of a policy as a :class:`policy.trainable.Trainable`; the very module that paints."""

    name = "vae"

    def __init__(self, vae: AutoencoderDC, noise: float) -> None:
        """``noise``: on the latents, of their own spread, so that small errors of the decoder do not show."""
        for parameter in vae.parameters():  # DeepSpeed sends their bytes, which must lie in order
            parameter.data = parameter.data.contiguous()
        self.module: nn.Module = _ThereAndBack(vae, noise)
        self._vae = vae

    def inputs(self, rows: ReconstructionQuery) -> tuple[object, ...]:
        dtype = next(self._vae.parameters()).dtype
        return rows.pixels.to(dtype), rows.noise.to(dtype)

    def outputs(self, raw: tuple[Tensor, ...]) -> Reconstruction:
        return Reconstruction(*raw)

    def trained(self) -> Sequence[nn.Parameter]:
        return list(self._vae.parameters())

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        values = self._vae.state_dict(keep_vars=True)
        return WeightStream.stored([StoredWeight(name, (value,)) for name, value in values.items()], gathered)

    def streams(self, gathered: Gathered = nullcontext) -> dict[str, WeightStream]:
        return {"vae": self.weights(gathered)}

    def adapters(self, gathered: Gathered = nullcontext) -> dict[str, Adapter]:
        return {}

    def reference(self) -> Network:
        return copy.deepcopy(self.module).eval().requires_grad_(False)

    def used_directly(self) -> Sequence[Tensor]:
        return []


class _ThereAndBack(nn.Module):
    def __init__(self, vae: AutoencoderDC, noise: float) -> None:
        super().__init__()
        self.vae, self._noise = vae, noise

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        latents = self.vae.encode(pixels, return_dict=False)[0]
        noisy = latents + noise * latents.detach().std() * self._noise
        return self.vae.decode(noisy, return_dict=False)[0], latents
