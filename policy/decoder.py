"""The diffusion decoder: connector + SANA transformer + autoencoder + flow-matching scheduler."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaTransformer2DModel
from numpy.typing import NDArray
from torch import Tensor, nn

from policy.flow.walk import FlowTrajectory
from policy.pictures.reference import ReferenceLatents
from policy.pictures.view import square_view
from policy.trajectory import DecoderSampler, euler
from rl.data.pictures import Picture

References = Sequence[Picture | None]


class Decoder(nn.Module):
    """Paints pictures from the language model's final hidden states."""

    def __init__(
        self,
        connector: nn.Sequential,
        transformer: SanaTransformer2DModel,
        vae: AutoencoderDC,
        scheduler: FlowMatchEulerDiscreteScheduler,
        reference: ReferenceLatents | None = None,
    ) -> None:
        """``reference``: how it sees a picture that is to be changed; ``None``: it does not."""
        super().__init__()
        self.connector, self.transformer, self.vae, self.scheduler = connector, transformer, vae, scheduler
        self.reference = reference
        self.sampler: DecoderSampler = euler
        for block in transformer.transformer_blocks:
            block.attn1.to_out[0].register_forward_pre_hook(_contiguous)
            block.attn2.to_q.register_forward_pre_hook(_contiguous)

    def connector_in(self, dtype: torch.dtype) -> nn.Module:
        """A copy of the connector for whoever computes in ``dtype`` what the decoder will read."""
        return copy.deepcopy(self.connector).to(dtype)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture's latents."""
        side = self.transformer.config.sample_size
        return int(self.vae.config.latent_channels), side, side

    @property
    def picture_side(self) -> int:
        """Pixels of a painted picture's edge."""
        return int(self.transformer.config.sample_size * self.vae.spatial_compression_ratio)

    def put_channels_last(self) -> None:
        """The weights of convolutions in the order in which CPUs and tensor cores read pictures: a third faster."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def compile_networks(self, *, transformer: bool = True) -> None:
        """By torch.compile, once for all numbers of pictures; the ``transformer`` only where it is not trained."""
        if transformer:
            self.transformer.compile(dynamic=True)
        self.vae.decoder.compile(dynamic=True)

    @contextmanager
    def by_ode(self) -> Iterator[None]:
        """Inside, pictures are drawn by the flow's ODE and not by ``sampler``."""
        own, self.sampler = self.sampler, euler
        try:
            yield
        finally:
            self.sampler = own

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """(B, C, h, w) standard normal latents, each from its own seed alone, the same on every device."""
        parts = [torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        parameter = next(self.transformer.parameters())
        return torch.stack(parts).to(parameter.device, parameter.dtype)

    def velocity(
        self,
        latents: Tensor,
        timestep_B: Tensor,
        hidden_BSD: Tensor,
        reference_BChw: Tensor | None = None,
        *,
        unconditional: bool = False,
    ) -> Tensor:
        """Predicted flow (noise - clean latents) at ``timestep_B`` in [0, 1000]; ``reference_BChw``: latents of the
        pictures that are to be changed. ``unconditional``: what guidance leads away from; the hidden states are zeros.
        """
        condition, width = self.connector(hidden_BSD), latents.shape[-1]
        if self.reference is not None and reference_BChw is not None:
            join = self.reference.without if unconditional else self.reference.condition
            condition = join(condition, reference_BChw)
        if self.reference is not None:
            latents = self.reference.widened(latents, reference_BChw)
        flow = self.transformer(latents, encoder_hidden_states=condition, timestep=timestep_B, return_dict=False)[0]
        return flow if flow.shape[-1] == width else flow[..., :width]

    def paint(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float = 1.0,
        references: References | None = None,
    ) -> NDArray[np.uint8]:
        """B hidden-state sequences and B noise seeds -> (B, H, W, 3) uint8 pictures, in ``steps`` steps of ``sampler``.

        Classifier-free guidance v = v_uncond + guidance * (v_cond - v_uncond), with zeros in place of the hidden states
        for v_uncond. ``references``: of each, the picture that is to be changed, if there is one; a decoder that sees
        none (``reference``) does without.
        """
        return self.draw(hidden_BSD, seeds, steps=steps, guidance=guidance, references=references)[0]

    def draw(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float = 1.0,
        references: References | None = None,
    ) -> tuple[NDArray[np.uint8], FlowTrajectory]:
        """The same pictures, with the way to each, which a trained decoder learns from."""
        if self.reference is None or references is None or not any(references):
            return self._drawn(hidden_BSD, seeds, steps, guidance)
        edits = [row for row, one in enumerate(references) if one is not None]
        others = [row for row, one in enumerate(references) if one is None]
        parts = [
            self._drawn(hidden_BSD[edits], [seeds[row] for row in edits], steps, guidance, self.encoded(references))
        ]
        if others:
            parts.append(self._drawn(hidden_BSD[others], [seeds[row] for row in others], steps, guidance))
        order = np.argsort([*edits, *others])
        pictures = np.concatenate([one for one, _ in parts])[order]
        return pictures, FlowTrajectory.of_all([one for _, one in parts]).take(order.tolist())

    @torch.no_grad()
    def encoded(self, references: References) -> Tensor:
        """(R, C, h, w) scaled latents of those that are pictures, each seen as the square in its middle."""
        views: dict[Picture, int] = {}
        places = [views.setdefault(one, len(views)) for one in references if one is not None]
        pixels = np.stack([square_view(one.pixels, self.picture_side) for one in views])
        parameter = next(self.vae.parameters())
        pixels_B3HW = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(parameter.device, parameter.dtype) / 127.5 - 1.0
        latents = [self.vae.encode(one[None], return_dict=False)[0] for one in pixels_B3HW]
        return torch.cat(latents)[places] * self.vae.config.scaling_factor

    @torch.no_grad()
    def _drawn(
        self, hidden_BSD: Tensor, seeds: Sequence[int], steps: int, guidance: float, reference: Tensor | None = None
    ) -> tuple[NDArray[np.uint8], FlowTrajectory]:
        noise = self.noise(seeds)
        hidden_BSD = hidden_BSD.to(noise.device, noise.dtype)
        reference = None if reference is None else reference.to(noise.device, noise.dtype)

        def velocity(latents: Tensor, timestep_B: Tensor) -> Tensor:
            flow = self.velocity(latents, timestep_B, hidden_BSD, reference)
            if guidance == 1.0:
                return flow
            zeros = torch.zeros_like(hidden_BSD)
            unconditional = self.velocity(latents, timestep_B, zeros, reference, unconditional=True)
            return unconditional + guidance * (flow - unconditional)

        found = self.sampler(velocity, noise, self.scheduler, steps)
        if isinstance(found, Tensor):
            return self.pixels(found), FlowTrajectory.without_window(found)
        return self.pixels(found.latents.to(noise.dtype)), found

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> NDArray[np.uint8]:
        """Scaled latents (B, C, h, w) -> (B, H, W, 3) uint8."""
        scaled = (latents / self.vae.config.scaling_factor).contiguous(memory_format=torch.channels_last)
        decoded = self.vae.decode(scaled, return_dict=False)[0]
        pixels = ((decoded.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A linear layer copies its weight for every picture of a transposed batch."""
    return tuple(value.contiguous() for value in inputs)
