"""Copies of trained networks in another process, which follow those that are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.flow.network import FlowNetwork
from policy.lora.adapters import Lora
from policy.trainable import LanguageModel, WeightStream
from rl.types import Forward, Sequences
from rollout.proof import LiveSum, sums_of
from rollout.weights import check_weights


class Replica:
    """A :class:`rollout.sync.Follower` by the weights that it computes with. One with adapters takes adapters, and
    computes as the trainer does, to the last bit."""

    asked = ""

    def __init__(self, part: str, weights: Mapping[str, Tensor], lora: Lora | None) -> None:
        """``weights``: the live ones, under the names of their checkpoint."""
        self.follows = frozenset({part})
        self.versions: Mapping[str, int] = {part: 0}
        adapters = {} if lora is None else {one.name: one.parts[0] for one in lora.adapter()}
        self._taken = adapters or dict(weights)
        self._live = {**weights, **adapters}
        self._shapes = {name: tuple(weight.shape) for name, weight in self._taken.items()}

    @torch.no_grad()
    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        for name, weight in check_weights(weights, self._shapes).tensors():
            self._taken[name].copy_(weight)
        self.versions = {part: version}

    def live_sums(self, part: str) -> Sequence[LiveSum]:
        return sums_of(self._live.items())

    def answer(self, question: object) -> NDArray[np.float32]:
        raise TypeError(f"nothing is asked of it, not {type(question).__name__} either")


class LanguageModelReplica(Replica):
    """It reads tokens: it is asked for their log-probs, as a sampler is."""

    asked = "logprobs"

    def __init__(self, model: LanguageModel, forward: Callable[[Sequences], Forward]) -> None:
        lora = model.lora
        weights = {one.name: one.parts[0] for one in lora.weights()} if lora else dict(model.ar.state_dict())
        super().__init__("ar", weights, lora)
        self._forward = forward

    def answer(self, question: object) -> NDArray[np.float32]:
        if not isinstance(question, Sequences):
            raise TypeError(f"a language model is asked about Sequences, not {type(question).__name__}")
        return self._forward(question).logprobs_BT.cpu().float().numpy()


class DecoderReplica(Replica):
    """It paints. No canary is put to it: all that it computes with is added up."""

    asked = "velocity"

    def __init__(self, network: FlowNetwork) -> None:
        super().__init__("decoder", {one.name: one.parts[0] for one in network.stored()}, network.lora)
