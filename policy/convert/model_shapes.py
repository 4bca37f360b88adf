"""Names and shapes of a part's tensors, from its configuration; loads no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import nn

from policy.json_file import JsonObject

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_TABLE = "vision_tower.bottleneck.regularizer.embedding.weight"
_UNREAD = ("vision_tower.decoder.", "vision_tower.decode_task_layer.")


def language_model_shapes(config: JsonObject) -> Shapes:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        return _shapes(Qwen3ForCausalLM(Qwen3Config.from_dict(dict(config))))


def connector_shapes(hidden_size: int, caption_channels: int) -> Shapes:
    """Linear - GELU - Linear - RMSNorm."""
    return {
        "0.weight": (caption_channels, hidden_size),
        "0.bias": (caption_channels,),
        "2.weight": (caption_channels, caption_channels),
        "2.bias": (caption_channels,),
        "3.weight": (caption_channels,),
    }


def transformer_shapes(config: JsonObject) -> Shapes:
    from diffusers import SanaTransformer2DModel

    with torch.device("meta"):
        return _shapes(SanaTransformer2DModel.from_config(dict(config)))


def vae_shapes(config: JsonObject) -> Shapes:
    from diffusers import AutoencoderDC

    with torch.device("meta"):
        return _shapes(AutoencoderDC.from_config(dict(config)))


def image_tokenizer_shapes(config: JsonObject, found: Shapes) -> Shapes:
    """TA-Tok: a SigLIP encoder, and codes behind a linear map (SimVQ) whose width only the table itself tells.

    Its way back from codes to features is read by nobody: whatever was ``found`` of it is right.
    """
    from transformers import SiglipVisionConfig, SiglipVisionModel

    hidden, code = config["vision"]["hidden_size"], found.get(_TABLE, (0, 0))[-1]
    with torch.device("meta"):
        encoder = SiglipVisionModel(SiglipVisionConfig(**config["vision"]))
    return {
        **{f"vision_tower.encoder.{name}": shape for name, shape in _shapes(encoder).items()},
        **_linear("vision_tower.encode_task_layer.0", hidden, hidden),
        **_linear("vision_tower.bottleneck.in_linear", hidden, code),
        **_linear("vision_tower.bottleneck.out_linear", code, code),
        **_linear("vision_tower.bottleneck.regularizer.embedding_proj", code, code),
        _TABLE: (config["codes"], code),
        "vision_tower.scale_layer.shift": (1, 3, 1, 1),
        "vision_tower.scale_layer.scale": (1, 3, 1, 1),
        **{name: shape for name, shape in found.items() if name.startswith(_UNREAD)},
    }


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _shapes(model: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
