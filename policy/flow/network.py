"""The decoder as a trained network: connector and transformer behind one call; the autoencoder stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from policy.flow.rows import Flow, FlowQuery
from policy.lora.adapters import Lora, StoredWeight
from policy.parts import REFERENCE_PART
from policy.pictures.reference import GivenLatents, ReferenceLatents, flow_of
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
        reference: ReferenceLatents | None = None,
        *,
        train: Literal["transformer", "connector", "all"] = "transformer",
        recompute: bool = False,
        lora: Lora | None = None,
    ) -> None:
        """``reference``: how references are seen; with ``all`` it learns too. ``recompute``: the blocks' activations
        are made again in the backward pass. ``lora``: adapters of the transformer, trained alone."""
        self.module: nn.Module = _Velocity(connector, transformer, reference)
        self.lora, self._transformer, self._connector = lora, transformer, connector
        self._reference = None if reference is None else reference.connector
        self._train = train
        if recompute:
            transformer.enable_gradient_checkpointing()

    def inputs(self, rows: FlowQuery) -> tuple[object, ...]:
        """States and hidden states in the network's precision, the timestep in its own: bfloat16 makes 968 of 966."""
        dtype = next(self._transformer.parameters()).dtype
        asked = rows.states.to(dtype), rows.timestep_N, rows.hidden.values_BSD.to(dtype), rows.sequence_N
        if rows.references is None:
            return asked
        return *asked, rows.references.values_BChw.to(dtype), rows.references.has_B

    def outputs(self, raw: tuple[Tensor, ...]) -> Flow:
        return Flow(*raw)

    def trained(self) -> Sequence[nn.Parameter]:
        if self.lora:
            return self.lora.parameters()
        everything = [self._connector, self._transformer, *([self._reference] if self._reference else [])]
        chosen = {"transformer": [self._transformer], "connector": [self._connector]}
        return [p for one in chosen.get(self._train, everything) for p in one.parameters()]

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        return WeightStream.stored(self.stored(), gathered)

    def stored(self) -> list[StoredWeight]:
        """All networks whole, as ``connector.*``, ``transformer.*`` and ``reference_connector.*``: what a policy folder
        keeps of each."""
        found: list[StoredWeight] = []
        for part, module in (("connector", self._connector), (REFERENCE_PART, self._reference)):
            values = {} if module is None else module.state_dict(keep_vars=True)
            found += _named(part, [StoredWeight(name, (value,)) for name, value in values.items()])
        whole = self._transformer.state_dict(keep_vars=True).items()
        stored = self.lora.weights() if self.lora else [StoredWeight(name, (value,)) for name, value in whole]
        return found + _named("transformer", stored)

    def used_directly(self) -> Sequence[Tensor]:
        """Tables that the transformer and its blocks add without a layer of their own."""
        return [value for name, value in self._transformer.named_parameters() if name.endswith("scale_shift_table")]


class _Velocity(nn.Module):
    """Connector and transformer behind the one call that an engine makes."""

    def __init__(self, connector: nn.Module, transformer: nn.Module, reference: ReferenceLatents | None) -> None:
        super().__init__()
        self.connector, self.transformer, self.reference = connector, transformer, reference

    def forward(
        self,
        states: Tensor,
        timestep_N: Tensor,
        hidden_BSD: Tensor,
        sequence_N: Tensor,
        references_BChw: Tensor | None = None,
        has_B: Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        condition = self.connector(hidden_BSD)[sequence_N]
        given = None
        if references_BChw is not None and has_B is not None:
            has_N = has_B[sequence_N]
            given = GivenLatents(references_BChw[sequence_N], has_N, has_N)
        return (flow_of(self.transformer, self.reference, states, timestep_N, condition, given),)


def _named(part: str, weights: Sequence[StoredWeight]) -> list[StoredWeight]:
    return [StoredWeight(f"{part}.{one.name}", one.parts, one.scale) for one in weights]
