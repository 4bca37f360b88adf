"""A copy of the language model in another process, which follows the one that is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3ForCausalLM

from policy.trainable import WeightStream
from rl.types import Forward, Sequences
from rollout.proof import LiveSum, sums_of
from rollout.weights import check_weights


class LanguageModelReplica:
    """A :class:`rollout.sync.Follower` that reads tokens: it is asked for their log-probs, as a sampler is."""

    follows = frozenset({"ar"})
    asked = "logprobs"

    def __init__(self, ar: Qwen3ForCausalLM, forward: Callable[[Sequences], Forward]) -> None:
        self.versions: Mapping[str, int] = {"ar": 0}
        self._ar, self._forward, self._had_all = ar, forward, False
        self._shapes = {name: tuple(weight.shape) for name, weight in ar.state_dict().items()}

    @torch.no_grad()
    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        again, self._had_all = self._had_all, False  # not all, if it ends half-way
        due, parameters = check_weights(weights, self._shapes, again=again), self._ar.state_dict()
        for name, weight in due.tensors():
            parameters[name].copy_(weight)
        self.versions, self._had_all = {part: version}, True

    def answer(self, question: object) -> NDArray[np.float32]:
        if not isinstance(question, Sequences):
            raise TypeError(f"a language model is asked about Sequences, not {type(question).__name__}")
        return self._forward(question).logprobs_BT.cpu().float().numpy()

    def live_sums(self, part: str) -> Sequence[LiveSum]:
        return sums_of(self._ar.state_dict().items())
