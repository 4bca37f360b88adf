"""A Qwen3 layer in two halves around its attention, so that forwards of our own decide who sees what.

Transformers' modules do the work, each called as a module: adapters and sharded parameters hook on to those calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3Model, apply_rotary_pos_emb

from rl.types import PictureFeatures


def query_key_value(
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


def attend(query: Tensor, key: Tensor, value: Tensor, sees: Tensor | None) -> Tensor:
    """(B, H, T, d) queries over (B, K, S, d) keys and values, H / K query heads to each -> (B, T, H * d).

    ``sees`` is bool, (B or 1, 1, T, S); ``None``: everybody sees all. The query heads of a key stand below each other
    as more queries, so no key is copied.
    """
    per_key, steps = query.shape[1] // key.shape[1], query.shape[2]
    query_BKNd = query.unflatten(1, (-1, per_key)).flatten(2, 3)
    sees = sees if sees is None or steps == 1 else sees.repeat(1, 1, per_key, 1)
    mixed = _mixed(query_BKNd, key, value, sees).to(query.dtype)
    return mixed.unflatten(2, (per_key, steps)).flatten(1, 2).transpose(1, 2).flatten(2)


def _mixed(query: Tensor, key: Tensor, value: Tensor, sees: Tensor | None) -> Tensor:
    if query.device.type == "cpu":  # in bfloat16 the backward of torch's CPU kernel is eight times slower
        query, key, value = query.float(), key.float(), value.float()
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=sees)


def finish(layer: Qwen3DecoderLayer, states_BLD: Tensor, mixed_BLE: Tensor) -> Tensor:
    """Output projection, feed-forward and both residual connections."""
    states_BLD = states_BLD + layer.self_attn.o_proj(mixed_BLE)
    return states_BLD + layer.mlp(layer.post_attention_layernorm(states_BLD))


def right_padded(rows: Collection[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """P ragged rows of ids -> (P, L) with zeros behind them, and (P,) their lengths."""
    longest = max(map(len, rows))
    ids_PL = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in rows], device=device)
    return ids_PL, torch.tensor([len(ids) for ids in rows], device=device)


def embedded(model: Qwen3Model, ids: Tensor, features: Sequence[PictureFeatures | None] | None, width: int) -> Tensor:
    """(..., D) embeddings of the ids, but for those in whose place a picture's vectors stand; prompt p begins with the
    ``p * width``-th id."""
    states: Tensor = model.embed_tokens(ids)
    there = [(row, one) for row, one in enumerate(features or ()) if one is not None]
    if not there:
        return states
    places = [row * width + one.start + place for row, one in there for place in range(len(one.vectors_ND))]
    vectors_ND = torch.cat([one.vectors_ND.to(states) for _, one in there])
    return states.flatten(0, -2).index_put((torch.tensor(places, device=ids.device),), vectors_ND).view_as(states)


def causal(length: int, device: torch.device) -> Tensor:
    """(1, 1, L, L): each position sees itself and those before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


@dataclass(frozen=True)
class LayerHalves:
    """What a forward calls before and after each attention."""

    before: Callable[[Qwen3DecoderLayer, Tensor, tuple[Tensor, Tensor]], tuple[Tensor, Tensor, Tensor]] = (
        query_key_value
    )
    after: Callable[[Qwen3DecoderLayer, Tensor, Tensor], Tensor] = finish

    @classmethod
    def compiled(cls) -> LayerHalves:
        """By torch.compile, once for all layers and lengths: norms, rotary embedding and activations become few loops.
        With and without gradient they round differently, by float noise.
        """
        return cls(torch.compile(query_key_value, dynamic=True), torch.compile(finish, dynamic=True))


EAGER = LayerHalves()
