"""What the decoder sees of a picture that is to be changed, beside the tokens: its latents.

Three ways, each on its own or together: as vectors that the transformer attends to behind the hidden states, beside the
noise, so that it paints the left half of a picture twice as wide (both BLIP3o-NEXT-edit's), and as further channels of
the noise, place by place (InstructPix2Pix, arXiv 2211.09800), which are zeros where nothing is to be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policy.conditions import ATTENDED, BESIDE_NOISE, CHANNELS

Transformer = Callable[..., tuple[Tensor]]


@dataclass(frozen=True)
class GivenLatents:
    """Of N rows that a decoder learns from: ``latents_NChw`` (zeros where there is none), whether there is a reference,
    and whether it may be attended to."""

    latents_NChw: Tensor
    has_N: Tensor
    shown_N: Tensor


class ReferenceLatents(nn.Module):
    """``connector``: latent channels -> caption channels, as the connector of the hidden states; ``None``: references
    are not attended to. ``beside_noise``: they stand to the right of the noise. ``channels``: they are channels of it.
    """

    def __init__(self, connector: nn.Sequential | None, *, beside_noise: bool = False, channels: bool = False) -> None:
        super().__init__()
        if (connector is None and not beside_noise and not channels) or (beside_noise and channels):
            raise ValueError("a decoder sees references in one way at least, and beside its noise or as channels of it")
        self.connector, self.beside_noise, self.channels = connector, beside_noise, channels

    @property
    def ways(self) -> tuple[str, ...]:
        ways = ((ATTENDED, self.connector), (BESIDE_NOISE, self.beside_noise), (CHANNELS, self.channels))
        return tuple(way for way, on in ways if on)

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

    def widened(self, noisy_BChw: Tensor, latents_BChw: Tensor | None) -> Tensor:
        """What the transformer gets; ``None``: there are no references."""
        if self.channels:
            behind = torch.zeros_like(noisy_BChw) if latents_BChw is None else latents_BChw
            return torch.cat([noisy_BChw, behind], 1)
        if not self.beside_noise or latents_BChw is None:
            return noisy_BChw
        return torch.cat([noisy_BChw, latents_BChw], -1)

    def flow(
        self,
        transformer: Transformer,
        states_NChw: Tensor,
        timestep_N: Tensor,
        condition_NSD: Tensor,
        given: GivenLatents,
    ) -> Tensor:
        """What the transformer answers in rows with references and without.

        Each as it is painted. Every network has a part in every row, whatever rank and micro-batch it comes to.
        """
        condition, mask = self._attended(condition_NSD, given)
        more = {"encoder_hidden_states": condition, "encoder_attention_mask": mask}
        if not self.beside_noise:
            noisy = self.widened(states_NChw, given.latents_NChw)
            return transformer(noisy, timestep=timestep_N, return_dict=False, **more)[0]
        found = torch.zeros_like(states_NChw)
        for has in (True, False):
            rows = (given.has_N == has).nonzero()[:, 0]
            if len(rows):
                noisy = self.widened(states_NChw[rows], given.latents_NChw[rows] if has else None)
                part = {name: None if value is None else value[rows] for name, value in more.items()}
                flow = transformer(noisy, timestep=timestep_N[rows], return_dict=False, **part)[0]
                found = found.index_copy(0, rows, flow[..., : states_NChw.shape[-1]].to(found.dtype))
        return found

    def _attended(self, condition_NSD: Tensor, given: GivenLatents) -> tuple[Tensor, Tensor | None]:
        """With the mask of what each row attends to."""
        if self.connector is None:
            return condition_NSD, None
        latents = given.latents_NChw
        vectors_NRD = self.connector(latents.flatten(2).transpose(1, 2)) * given.shown_N[:, None, None]
        own = condition_NSD.new_ones(condition_NSD.shape[:2])
        theirs = given.has_N[:, None].to(own.dtype).expand(-1, vectors_NRD.shape[1])
        return torch.cat([condition_NSD, vectors_NRD.to(condition_NSD.dtype)], 1), torch.cat([own, theirs], 1)


def flow_of(
    transformer: Transformer,
    reference: ReferenceLatents | None,
    states_NChw: Tensor,
    timestep_N: Tensor,
    condition_NSD: Tensor,
    given: GivenLatents | None,
) -> Tensor:
    """What a decoder that learns answers; ``given``: what its rows have of references, ``None`` where none has any."""
    if reference is not None and given is not None:
        return reference.flow(transformer, states_NChw, timestep_N, condition_NSD, given)
    noisy = states_NChw if reference is None else reference.widened(states_NChw, None)
    return transformer(noisy, encoder_hidden_states=condition_NSD, timestep=timestep_N, return_dict=False)[0]
