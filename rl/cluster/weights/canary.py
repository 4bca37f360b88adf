"""Canaries on their way with the weights: a question about token sequences, and the trainer's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch

from policy.json_file import JsonObject
from policy.pictures import stored
from rl.types import Sequences, Span
from rollout.sync import Canary


def written(canaries: Mapping[str, Canary]) -> dict[str, JsonObject]:
    """As JSON, in which float32 numbers keep their last bit."""
    found: dict[str, JsonObject] = {}
    for kind, canary in canaries.items():
        rows = canary.question
        if not isinstance(rows, Sequences):
            raise TypeError(f"a canary asks about Sequences here, not {type(rows).__name__}")
        found[kind] = {
            "prompt_ids": [list(ids) for ids in rows.prompt_ids],
            "tokens": rows.tokens_BT.tolist(),
            "temperature": rows.temperature,
            "span": None if rows.span is None else asdict(rows.span),
            "features": stored.written(rows.features),
            "expected": canary.expected.tolist(),
            "what": canary.what,
            "unit": canary.unit,
        }
    return found


def read(stored: Mapping[str, JsonObject]) -> dict[str, Canary]:
    return {kind: _canary(one) for kind, one in stored.items()}


def _canary(one: JsonObject) -> Canary:
    prompt_ids = [tuple(ids) for ids in one["prompt_ids"]]
    span = None if one["span"] is None else Span(**one["span"])
    tokens_BT = torch.tensor(one["tokens"], dtype=torch.int64)
    rows = Sequences(prompt_ids, tokens_BT, one["temperature"], span, stored.read(one.get("features")))
    return Canary(rows, np.array(one["expected"], np.float32), one["what"], one["unit"])
