"""A language model and a decoder of a few numbers, published; and a follower of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policy.trainable import LanguageModel, WeightStream
from rl.cluster.weights.store import WeightStore
from rl.types import Sequences
from rollout.proof import LiveSum, sums_of
from rollout.sync import Canary
from tests.rl.trainer.trainer_case import LAYOUT, tiny_ar

ROWS = Sequences([(3, 4, 27, 25), (5, 27, 25)], torch.tensor([[28, 31, 59, 40], [30, 30, 33, 28]]), 1.0, LAYOUT.image)


def language_model(seed: int) -> LanguageModel:
    ar = tiny_ar(seed=seed, tie_word_embeddings=True)
    for name, value in ar.named_parameters():
        if "norm" in name:  # all ones in a new model
            value.data = 1.0 + 0.1 * torch.randn(value.shape)
    return LanguageModel(ar, LAYOUT.image)


def decoder_weights(seed: int) -> WeightStream:
    generator = torch.Generator().manual_seed(seed)
    names = {"connector.proj.weight": (4, 6), "connector.proj.bias": (4,), "transformer.blocks.0.weight": (8, 4)}
    return WeightStream.of((name, torch.randn(shape, generator=generator)) for name, shape in names.items())


@torch.no_grad()
def logprobs(model: LanguageModel) -> np.ndarray:
    return model.outputs(model.module(*model.inputs(ROWS))).logprobs_BT.numpy()


def canary(model: LanguageModel) -> dict[str, Canary]:
    return {"logprobs": Canary(ROWS, logprobs(model))}


def publish(store: WeightStore, version: int, *, decoder: bool = True) -> LanguageModel:
    """The models of that seed."""
    model = language_model(version)
    parts = {"ar": model.weights()} | ({"decoder": decoder_weights(version)} if decoder else {})
    store.publish(version, parts, canaries=canary(model))
    return model


def opened(folder: Path, run: str = "run") -> WeightStore:
    return WeightStore.open(run, candidates=[folder])


class TinyFollower:
    """Takes both parts; answers with its language model."""

    follows = frozenset({"ar", "decoder"})
    asked = "logprobs"

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.model = language_model(99)
        self.model.ar.to(dtype)
        self.decoder = {name: value.to(dtype) for name, value in decoder_weights(99).tensors()}
        self.versions = {"ar": 0, "decoder": 0}

    def live(self, part: str) -> dict[str, Tensor]:
        return dict(self.model.ar.state_dict()) if part == "ar" else self.decoder

    @torch.no_grad()
    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        held = self.live(part)
        for name, value in weights.tensors():
            held[name].copy_(value)
        self.versions[part] = version

    def live_sums(self, part: str) -> Sequence[LiveSum] | None:
        return sums_of(self.live(part).items())

    def answer(self, question: object) -> np.ndarray:
        assert isinstance(question, Sequences)
        return logprobs(self.model).astype(np.float32)
