"""Vectors of pictures as JSON, to the last bit, whatever their precision: beside a checkpoint, and to workers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rl.types import PictureFeatures

JsonFeatures = list[dict[str, Any] | None] | None
"""One entry for each prompt or row; ``None``: there are none."""


def written(features: Sequence[PictureFeatures | None] | None) -> JsonFeatures:
    return None if features is None else [None if one is None else _written(one) for one in features]


def read(stored: Sequence[Mapping[str, Any] | None] | None) -> tuple[PictureFeatures | None, ...] | None:
    return None if stored is None else tuple(None if one is None else _read(one) for one in stored)


def _written(one: PictureFeatures) -> dict[str, Any]:
    vectors_ND = one.vectors_ND.detach().cpu().contiguous()
    return {
        "start": one.start,
        "digest": one.digest,
        "shape": list(vectors_ND.shape),
        "dtype": str(vectors_ND.dtype).removeprefix("torch."),
        "bytes": b64encode(vectors_ND.view(torch.uint8).numpy().tobytes()).decode(),
    }


def _read(one: Mapping[str, Any]) -> PictureFeatures:
    content = bytearray(b64decode(one["bytes"]))
    vectors_ND = torch.frombuffer(content, dtype=getattr(torch, one["dtype"])).view(one["shape"])
    return PictureFeatures(one["start"], one["digest"], vectors_ND)
