"""A copy of the language model in another process, which follows the one that is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from policy.trainable import LanguageModel, WeightStream
from rl.types import Forward, Sequences
from rollout.proof import LiveSum, sums_of
from rollout.weights import check_weights


class LanguageModelReplica:
    """A :class:`rollout.sync.Follower` that reads tokens: it is asked for their log-probs, as a sampler is.

    One with adapters takes adapters, and computes as the trainer does, to the last bit.
    """

    follows = frozenset({"ar"})
    asked = "logprobs"

    def __init__(self, model: LanguageModel, forward: Callable[[Sequences], Forward]) -> None:
        self.versions: Mapping[str, int] = {"ar": 0}
        self._forward = forward
        self._taken = dict(model.ar.state_dict())
        self._live = dict(self._taken)
        if lora := model.lora:
            self._taken = {one.name: one.parts[0] for one in lora.adapter()}
            self._live = {one.name: one.parts[0] for one in lora.weights()} | self._taken
        self._shapes = {name: tuple(weight.shape) for name, weight in self._taken.items()}

    @torch.no_grad()
    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        for name, weight in check_weights(weights, self._shapes).tensors():
            self._taken[name].copy_(weight)
        self.versions = {part: version}

    def answer(self, question: object) -> NDArray[np.float32]:
        if not isinstance(question, Sequences):
            raise TypeError(f"a language model is asked about Sequences, not {type(question).__name__}")
        return self._forward(question).logprobs_BT.cpu().float().numpy()

    def live_sums(self, part: str) -> Sequence[LiveSum]:
        return sums_of(self._live.items())
