"""The decoder as a trained network: connector and transformer behind one call; the autoencoder stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from policy.flow.rows import Flow, FlowQuery
from policy.lora.adapters import Lora, StoredWeight
from policy.trainable import AdaptedNetwork, Gathered, WeightStream

if TYPE_CHECKING:
    from diffusers import SanaTransformer2DModel


class FlowNetwork(AdaptedNetwork):
    """The diffusion half as a :class:`policy.trainable.Trainable`: ``FlowQuery`` in, ``Flow`` out. It is the very
    modules that paint, so what is learnt is painted with at once."""

    name = "decoder"

    def __init__(
        self,
        connector: nn.Module,
        transformer: SanaTransformer2DModel,
        *,
        train: Literal["transformer", "connector", "all"] = "transformer",
        recompute: bool = False,
        lora: Lora | None = None,
    ) -> None:
        """``recompute``: the blocks' activations are made again in the backward pass. ``lora``: adapters of the
        transformer, trained alone."""
        self.module: nn.Module = _Velocity(connector, transformer)
        self.lora, self._transformer, self._connector = lora, transformer, connector
        self._train = train
        if recompute:
            transformer.enable_gradient_checkpointing()

    def inputs(self, rows: FlowQuery) -> tuple[object, ...]:
        """States and hidden states in the network's precision, the timestep in its own: bfloat16 makes 968 of 966."""
        dtype = next(self._transformer.parameters()).dtype
        return rows.states.to(dtype), rows.timestep_N, rows.hidden.values_BSD.to(dtype), rows.sequence_N

    def outputs(self, raw: tuple[Tensor, ...]) -> Flow:
        return Flow(*raw)

    def trained(self) -> Sequence[nn.Parameter]:
        if self.lora:
            return self.lora.parameters()
        chosen = {"transformer": [self._transformer], "connector": [self._connector]}
        return [p for one in chosen.get(self._train, [self._connector, self._transformer]) for p in one.parameters()]

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        """Both networks whole, as ``connector.*`` and ``transformer.*``: what a policy folder keeps of each."""
        stored = [StoredWeight(name, (value,)) for name, value in self._connector.state_dict(keep_vars=True).items()]
        found = _named("connector", stored)
        whole = self._transformer.state_dict(keep_vars=True).items()
        stored = self.lora.weights() if self.lora else [StoredWeight(name, (value,)) for name, value in whole]
        return WeightStream.stored(found + _named("transformer", stored), gathered)

    def used_directly(self) -> Sequence[Tensor]:
        """Tables that the transformer and its blocks add without a layer of their own."""
        return [value for name, value in self._transformer.named_parameters() if name.endswith("scale_shift_table")]


class _Velocity(nn.Module):
    """Connector and transformer behind the one call that an engine makes."""

    def __init__(self, connector: nn.Module, transformer: nn.Module) -> None:
        super().__init__()
        self.connector, self.transformer = connector, transformer

    def forward(
        self, states: Tensor, timestep_N: Tensor, hidden_BSD: Tensor, sequence_N: Tensor
    ) -> tuple[torch.Tensor]:
        condition = self.connector(hidden_BSD)[sequence_N]
        flow = self.transformer(states, encoder_hidden_states=condition, timestep=timestep_N, return_dict=False)[0]
        return (flow,)


def _named(part: str, weights: Sequence[StoredWeight]) -> list[StoredWeight]:
    return [StoredWeight(f"{part}.{one.name}", one.parts, one.scale) for one in weights]
