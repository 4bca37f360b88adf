"""Token by token with cached keys and values: the language model's forward as a sampler in plain torch needs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, apply_rotary_pos_emb


class Decoding:
    """Keys and values of B running samples: slots 0..L-1 hold the prompt (padded right), L.. the image tokens."""

    def __init__(self, ar: Qwen3ForCausalLM, rows: Sequence[tuple[int, ...]], owner_B: Tensor, count: int) -> None:
        self.model, self.used = ar.model, max(len(ids) for ids in rows)
        device = owner_B.device
        lengths_P = torch.tensor([len(ids) for ids in rows], device=device)
        ids_PL = torch.tensor([[*ids, *[0] * (self.used - len(ids))] for ids in rows], device=device)
        self.position_B = lengths_P[owner_B]
        slots = torch.arange(self.used + count, device=device)
        real_BS = (slots < self.position_B[:, None]) | (slots >= self.used)
        self.mask_B11S = None if bool(real_BS.all()) else real_BS[:, None, None, :]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        states_PLD = self._prefill(ids_PL, owner_B, count)
        self.first_hidden_BD = states_PLD[torch.arange(len(rows), device=device), lengths_P - 1][owner_B]

    def _prefill(self, ids_PL: Tensor, owner_B: Tensor, count: int) -> Tensor:
        """Each prompt once; causal, so the padding on the right is never seen."""
        states = self.model.embed_tokens(ids_PL)
        rotary = self.model.rotary_emb(states, torch.arange(self.used, device=ids_PL.device)[None])
        for layer in self.model.layers:
            query, key, value = _query_key_value(layer, states, rotary)
            self.keys.append(_with_room(key[owner_B], count))
            self.values.append(_with_room(value[owner_B], count))
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
            states = _finish(layer, states, mixed)
        return self.model.norm(states)

    def step(self, tokens_B: Tensor) -> Tensor:
        """Feeds one token per sample -> (B, D) final hidden states at it."""
        states = self.model.embed_tokens(tokens_B[:, None])
        rotary = self.model.rotary_emb(states, self.position_B[:, None])
        slot, self.used = self.used, self.used + 1
        mask = None if self.mask_B11S is None else self.mask_B11S[..., : self.used]
        for index, layer in enumerate(self.model.layers):
            query, key, value = _query_key_value(layer, states, rotary)
            self.keys[index][:, :, slot], self.values[index][:, :, slot] = key[:, :, 0], value[:, :, 0]
            keys, values = self.keys[index][:, :, : self.used], self.values[index][:, :, : self.used]
            mixed = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
            states = _finish(layer, states, mixed)
        self.position_B = self.position_B + 1
        return self.model.norm(states)[:, 0]


def _query_key_value(
    layer: Qwen3DecoderLayer, states_BLD: Tensor, rotary: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, heads, L, head size) each, after the per-head norms and the rotary embedding."""
    attention, normed = layer.self_attn, layer.input_layernorm(states_BLD)
    shape = (*normed.shape[:2], -1, attention.head_dim)
    query = attention.q_norm(attention.q_proj(normed).view(shape)).transpose(1, 2)
    key = attention.k_norm(attention.k_proj(normed).view(shape)).transpose(1, 2)
    value = attention.v_proj(normed).view(shape).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    return query, key, value


def _finish(layer: Qwen3DecoderLayer, states_BLD: Tensor, mixed: Tensor) -> Tensor:
    """Output projection, feed-forward and both residual connections."""
    states_BLD = states_BLD + layer.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))
    return states_BLD + layer.mlp(layer.post_attention_layernorm(states_BLD))


def _with_room(cache: Tensor, count: int) -> Tensor:
    return functional.pad(cache, (0, 0, 0, count))
