"""Adapters that came alone, for the base that every machine has: merged into it, or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch

from policy.checksums import exact_sum
from policy.lora.adapters import StoredWeight, merged_weights, with_neighbours
from policy.trainable import Adapter, WeightStream
from rl.cluster.weights.base import BaseWeights
from rl.cluster.weights.sets import WeightSet

_PREFIXES = {"decoder": "transformer."}
"""Of the network inside a part that has the adapters."""


class AdaptersBeside:
    """Adapters for a network that has its own beside the base's weights, and the sums of both."""

    def __init__(self, found: WeightSet, part: str, adapter: Adapter, base: BaseWeights) -> None:
        self.version, self.source = found.version, found.source
        self._found, self._base = found, base
        self.stream = adapter.weights

    def sums(self, part: str, dtype: torch.dtype) -> Mapping[str, int]:
        held = {name: self._base.sum(name, dtype) for name in self._base.tensors}
        return {**held, **self._found.sums(part, dtype)}


class MergedPart:
    """Whole weights of a part, and the sums that they have: summed in float32, rounded once, as the trainer merges. For
    engines that know no adapters."""

    def __init__(self, found: WeightSet, part: str, adapter: Adapter, base: BaseWeights) -> None:
        """Raises: UserError naming an adapter's layer that the base does not have."""
        self.version, self.source = found.version, found.source
        self._base = base
        self._whole = merged_weights(
            base.tensors, adapter.config, dict(adapter.weights.tensors()), _PREFIXES.get(part, "")
        )
        changing = WeightStream.stored(with_neighbours(self._whole), nullcontext)
        self.stream = WeightStream.stored(self._whole, nullcontext, changing)
        self._sums: dict[torch.dtype, Mapping[str, int]] = {}

    def sums(self, part: str, dtype: torch.dtype) -> Mapping[str, int]:
        if dtype not in self._sums:
            self._sums[dtype] = {one.name: self._sum(one, dtype) for one in self._whole}
        return self._sums[dtype]

    def _sum(self, one: StoredWeight, dtype: torch.dtype) -> int:
        return exact_sum(one.value().to(dtype)) if one.adapted else self._base.sum(one.name, dtype)
