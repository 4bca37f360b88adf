"""Token by token with cached keys and values: the language model's forward as a sampler in plain torch needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3ForCausalLM, Qwen3Model

from policy.ar.layers import EAGER, LayerHalves, attend, causal, embedded, right_padded
from rl.types import PictureFeatures


class Decoding:
    """Keys and values of B running samples: slots 0..L-1 hold the prompt (padded right), L.. the image tokens."""

    def __init__(
        self,
        ar: Qwen3ForCausalLM,
        rows: Sequence[tuple[int, ...]],
        owner_B: Tensor,
        count: int,
        halves: LayerHalves = EAGER,
        features: Sequence[PictureFeatures | None] | None = None,
    ) -> None:
        """``features``: of prompts that hold a picture as vectors."""
        device = owner_B.device
        ids_PL, lengths_P = right_padded(rows, device)
        self.model, self.used, self.halves = ar.model, ids_PL.shape[1], halves
        self.position_B = lengths_P[owner_B]
        slots = torch.arange(self.used + count, device=device)
        real_BS = (slots < self.position_B[:, None]) | (slots >= self.used)
        self.mask_B11S = None if bool(real_BS.all()) else real_BS[:, None, None, :]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            del layer  # they come in order
            self.keys.append(_with_room(key[owner_B], count))
            self.values.append(_with_room(value[owner_B], count))

        self.first_hidden_BD = prefill(self.model, ids_PL, lengths_P, keep, halves, features)[owner_B]

    def step(self, tokens_B: Tensor) -> Tensor:
        """Feeds one token per sample -> (B, D) final hidden states at it."""
        states = self.model.embed_tokens(tokens_B[:, None])
        rotary = self.model.rotary_emb(states, self.position_B[:, None])
        slot, self.used = self.used, self.used + 1
        mask = None if self.mask_B11S is None else self.mask_B11S[..., : self.used]
        for index, layer in enumerate(self.model.layers):
            query, key, value = self.halves.before(layer, states, rotary)
            self.keys[index][:, :, slot], self.values[index][:, :, slot] = key[:, :, 0], value[:, :, 0]
            keys, values = self.keys[index][:, :, : self.used], self.values[index][:, :, : self.used]
            states = self.halves.after(layer, states, attend(query, keys, values, mask))
        self.position_B = self.position_B + 1
        return self.model.norm(states)[:, 0]


def prefill(
    model: Qwen3Model,
    ids_PL: Tensor,
    lengths_P: Tensor,
    keep: Callable[[int, Tensor, Tensor], None],
    halves: LayerHalves,
    features: Sequence[PictureFeatures | None] | None = None,
) -> Tensor:
    """Each prompt once -> (P, D) final hidden states at their last ids; causal, so the padding on the right is never
    seen. ``keep`` is given the number, keys and values of each layer.
    """
    states = embedded(model, ids_PL, features, ids_PL.shape[1])
    rotary = model.rotary_emb(states, torch.arange(ids_PL.shape[1], device=ids_PL.device)[None])
    sees = causal(ids_PL.shape[1], ids_PL.device)
    for index, layer in enumerate(model.layers):
        query, key, value = halves.before(layer, states, rotary)
        keep(index, key, value)
        states = halves.after(layer, states, attend(query, key, value, sees))
    return model.norm(states)[torch.arange(len(ids_PL), device=ids_PL.device), lengths_P - 1]


def _with_room(cache: Tensor, count: int) -> Tensor:
    """In float32 on a CPU, whose attention would turn all of it into that at every step."""
    return functional.pad(cache.float() if cache.device.type == "cpu" else cache, (0, 0, 0, count))
