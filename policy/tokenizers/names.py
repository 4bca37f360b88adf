"""Under which names a TA-Tok's file holds what a hybrid tokenizer has too."""

from __future__ import annotations

from typing import Final

TA_TOK: Final = {
    "vision_tower.encoder.": "encoder.",
    "vision_tower.encode_task_layer.0.": "discrete.0.",
    "vision_tower.bottleneck.in_linear.": "discrete.2.",
    "vision_tower.bottleneck.regularizer.embedding.": "quantiser.table.",
    "vision_tower.bottleneck.regularizer.embedding_proj.": "quantiser.map.",
}
"""Beginnings of names there -> here. What begins otherwise, a pooling head and a decoder, is read by nobody."""


def renamed(name: str) -> str | None:
    """The name here of a weight of a TA-Tok's file, if it has one."""
    before = next((one for one in TA_TOK if name.startswith(one)), None)
    return None if before is None else TA_TOK[before] + name.removeprefix(before)
