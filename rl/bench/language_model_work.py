"""What the stages around the language model have to do, from its sizes: for engines whose products torch can't see, and
for weights and optimizer states on their way through memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rl.bench.floor import StageWork
from rl.bench.products import Product

if TYPE_CHECKING:
    from transformers import Qwen3Config

_ADAM_PASSES = 7
"""Weight, gradient and both moments are read; weight and both moments are written."""
_MASTER_BYTES = 4


@dataclass(frozen=True)
class ModelSizes:
    """Of a Qwen3: its linear layers as (from, to), and the numbers that one token leaves in the cache."""

    layers: int
    linear: tuple[tuple[int, int], ...]
    head: tuple[int, int]
    cached: int

    @classmethod
    def of(cls, config: Qwen3Config, image_tokens: int) -> ModelSizes:
        hidden, inner = config.hidden_size, config.intermediate_size
        query, key = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        linear = ((hidden, query), (hidden, key), (hidden, key), (query, hidden))
        mlp = ((hidden, inner), (hidden, inner), (inner, hidden))
        cached = 2 * key * config.num_hidden_layers
        return cls(config.num_hidden_layers, linear + mlp, (hidden, image_tokens), cached)

    @property
    def weights(self) -> int:
        """Numbers that every step of decoding reads."""
        return self.layers * sum(k * n for k, n in self.linear) + self.head[0] * self.head[1]


def sampling(
    sizes: ModelSizes, prompt_lengths: Sequence[int], group_size: int, tokens: int, dtype: torch.dtype
) -> StageWork:
    """Each prompt once, then token after token of all samples; the weights and the cache are read for every token, a
    prompt's part of it once for its group."""
    products: Counter[Product] = Counter()
    samples, prompted = len(prompt_lengths) * group_size, sum(prompt_lengths)
    for k, n in sizes.linear:
        products[Product.matrices(prompted, k, n, dtype)] += sizes.layers
        products[Product.matrices(samples, k, n, dtype)] += sizes.layers * (tokens - 1)
    products[Product.matrices(samples, *sizes.head, dtype)] += tokens
    cached = sum(prompted + samples * written for written in range(1, tokens)) * sizes.cached
    return StageWork(products, traffic=(sizes.weights * tokens + cached) * dtype.itemsize)


def adam_traffic(parameters: int, updates: int) -> float:
    """Bytes; the optimizer's numbers are fp32 in every precision."""
    return float(_ADAM_PASSES * _MASTER_BYTES * parameters * updates)


def sync_traffic(parameters: int, dtype: torch.dtype) -> float:
    """Bytes: every weight read once and written once."""
    return 2.0 * parameters * dtype.itemsize
