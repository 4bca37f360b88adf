"""A TA-Tok with few random weights, as a file under the names of the original, and its layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from policy.json_file import write_json
from policy.layout import TokenLayout

START = 1000
CODES = 128
VISION: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 34,  # 8 x 8 patches of 4 px; the last two rows and columns are dropped, as 384 px drop six
    "patch_size": 4,
}
CONFIG: dict[str, Any] = {"kind": "ta_tok", "codes": CODES, "vision": VISION, "picture": 34}


def layout(side: int = 8) -> TokenLayout:
    return TokenLayout(
        vocab_size=START + CODES,
        image_start_id=START,
        num_image_tokens=CODES,
        tokens_per_image=side * side,
        im_start_id=1,
        im_end_id=2,
        scale_id=3,
        grid=(side, side),
    )


def pictures(count: int, height: int = 34, width: int = 34, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def tensors(vision: dict[str, Any] = VISION, width: int = 24, seed: int = 0) -> dict[str, Tensor]:
    """All that the original holds below ``model.vision_tower.``; of the reconstruction decoder one tensor."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "vision_tower." + name: torch.randn(shape, generator=generator)
        * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)
        for name, shape in _shapes(vision, width)
    }


def _shapes(vision: dict[str, Any], width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    yield "encoder.embeddings.patch_embedding.weight", (hidden, 3, patch, patch)
    yield "encoder.embeddings.patch_embedding.bias", (hidden,)
    yield "encoder.embeddings.position_embedding.weight", ((vision["image_size"] // patch) ** 2, hidden)
    linears = {
        f"encoder.encoder.layers.{layer}.self_attn.{name}_proj": (hidden, hidden)
        for layer in range(vision["num_hidden_layers"])
        for name in "q k v out".split()
    }
    for layer in range(vision["num_hidden_layers"]):
        yield from (
            (f"encoder.encoder.layers.{layer}.{norm}.{part}", (hidden,))
            for norm in ("layer_norm1", "layer_norm2")
            for part in ("weight", "bias")
        )
        linears[f"encoder.encoder.layers.{layer}.mlp.fc1"] = (inner, hidden)
        linears[f"encoder.encoder.layers.{layer}.mlp.fc2"] = (hidden, inner)
    linears["encode_task_layer.0"] = (hidden, hidden)
    linears["bottleneck.in_linear"] = (width, hidden)
    linears["bottleneck.out_linear"] = (width, width)
    linears["bottleneck.regularizer.embedding_proj"] = (width, width)
    for name, shape in linears.items():
        yield name + ".weight", shape
        yield name + ".bias", shape[:1]
    yield "bottleneck.regularizer.embedding.weight", (CODES, width)
    yield "encoder.post_layernorm.weight", (hidden,)
    yield "encoder.post_layernorm.bias", (hidden,)
    yield "encoder.head.probe", (1, 1, hidden)
    yield "decoder.vision_model.embeddings.position_embedding.weight", (16, hidden)
    yield "scale_layer.shift", (1, 3, 1, 1)
    yield "scale_layer.scale", (1, 3, 1, 1)


def write(folder: Path, weights: dict[str, Tensor], config: dict[str, Any] = CONFIG) -> Path:
    """The part of a policy folder; returns the file of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    file = folder / "model.safetensors"
    save_file(weights, file)
    return file
