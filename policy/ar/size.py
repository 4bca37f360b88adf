"""How large a language model is, read from its ``config.json`` (Qwen3) without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from policy.json_file import JsonObject, read_json

_POSITIONS = 32768  # Qwen3's own default


@dataclass(frozen=True)
class ArSize:
    """Of the language model in ``ar/`` of a policy folder."""

    parameters: int
    positions: int
    """Longest sequence, prompt and picture together."""
    cached_numbers: int
    """Keys and values of one token in all layers."""
    vocabulary: int
    hidden: int
    layers: int
    queries: int
    """Numbers of all query heads at one position of one layer."""
    keys: int
    inner: int
    """Of the feed-forward."""

    @classmethod
    def read(cls, ar_folder: Path) -> ArSize:
        """Raises: UserError if ``config.json`` is not JSON."""
        return cls.of(read_json(ar_folder / "config.json"))

    def cache_mb(self, tokens: int, number_bytes: int) -> int:
        """MiB that hold keys and values of ``tokens`` tokens, at least 64 and at most 8192."""
        return min(max(64, 1 + (tokens * number_bytes * self.cached_numbers >> 20)), 8192)

    @classmethod
    def of(cls, config: JsonObject) -> ArSize:
        hidden, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
        head = config.get("head_dim") or hidden // heads
        queries, keys = heads * head, config.get("num_key_value_heads", heads) * head
        bias = queries + 2 * keys + hidden if config.get("attention_bias") else 0
        attention = hidden * (2 * queries + 2 * keys) + 2 * head + bias  # 2 * head: the norms of queries and keys
        layer = attention + 3 * hidden * config["intermediate_size"] + 2 * hidden
        embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
        return cls(
            parameters=int(embeddings + layers * layer + hidden),
            positions=config.get("max_position_embeddings", _POSITIONS),
            cached_numbers=2 * layers * keys,
            vocabulary=config["vocab_size"],
            hidden=hidden,
            layers=layers,
            queries=queries,
            keys=keys,
            inner=config["intermediate_size"],
        )
