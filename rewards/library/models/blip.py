"""ImageReward's network from transformers' BLIP classes, filled from the authors' own checkpoint layout.

``ImageReward.pt`` is the state dict of a BLIP (ViT-L/16 at 224 pixels, BERT-base with cross-attention to the picture)
and a head. Its names are those of BLIP's original code; :func:`transformers_name` maps each to transformers'. Sizes
are read off the tensors; heads are 64 wide in both towers, as in every published ViT and BERT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from torch import Tensor, nn

from rewards.library.models.heads import linear_chain
from rewards.library.models.weights import fill
from rl.types import UserError

if TYPE_CHECKING:
    from transformers import BlipTextConfig, BlipVisionConfig

MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the head's answers on the authors' training data
_HEAD_WIDTH: Final = 64
_VISION_EPS, _TEXT_EPS = 1e-6, 1e-12  # of BLIP's original layer norms; transformers' default for the first is 1e-5
# Trained for BLIP's contrastive loss, or mere counters: they take no part in the reward.
_UNUSED: Final = re.compile(r"blip\.(vision_proj|text_proj)\..*|blip\.text_encoder\.embeddings\.position_ids")
_VISION_NAMES: Final = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_BLOCK_NAMES: Final = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def transformers_name(name: str) -> str | None:
    """The name of one of the checkpoint's tensors here: ``vision.*``, ``text.*``, ``head.*``; ``None`` if unused.

    BLIP's text encoder has the same names in both; ``blip.visual_encoder.blocks.3.attn.qkv.weight`` becomes
    ``vision.encoder.layers.3.self_attn.qkv.weight``. Unknown names stay as they are.
    """
    if _UNUSED.fullmatch(name):
        return None
    if name.startswith("mlp."):
        return "head." + name.removeprefix("mlp.")
    if name.startswith("blip.text_encoder."):
        return "text." + name.removeprefix("blip.text_encoder.")
    if match := re.fullmatch(r"blip\.visual_encoder\.blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        stem = _BLOCK_NAMES.get(match[2])
        return f"vision.encoder.layers.{match[1]}.{stem}.{match[3]}" if stem else name
    if match := re.fullmatch(r"blip\.visual_encoder\.(.+?)(\.weight|\.bias)?", name):
        stem = _VISION_NAMES.get(match[1])
        return f"vision.{stem}{match[2] or ''}" if stem else name
    return name


class ImageRewardModel(nn.Module):
    """(N, 3, S, S) pictures and N tokenised prompts -> (N,) standardised rewards."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """``state``: the checkpoint in the authors' layout; raises ``UserError`` if anything is missing or unknown."""
        super().__init__()
        from transformers import BlipTextModel, BlipVisionModel

        renamed = {new: tensor for name, tensor in state.items() if (new := transformers_name(name)) is not None}
        parts: dict[str, dict[str, Tensor]] = {"vision": {}, "text": {}, "head": {}}
        for name, tensor in renamed.items():
            part, _, rest = name.partition(".")
            if part not in parts:
                raise UserError(f"image_reward.options.checkpoint: it has the unknown {name}: it is another model's")
            parts[part][rest] = tensor
        try:
            vision_config = _vision_config(parts["vision"])
            text_config = _text_config(parts["text"], vision_config.hidden_size)
        except KeyError as error:
            raise UserError(f"image_reward.options.checkpoint: it lacks {error}: it is another model's") from error
        self.image_size: int = vision_config.image_size
        self.vision, self.text = BlipVisionModel(vision_config), BlipTextModel(text_config, add_pooling_layer=False)
        fill(self.vision, parts["vision"], at="image_reward.options")
        fill(self.text, parts["text"], at="image_reward.options")
        self.head = linear_chain(parts["head"], at="image_reward.options")

    def forward(self, pixels_NCSS: Tensor, input_ids_NT: Tensor, attention_mask_NT: Tensor) -> Tensor:
        """The head on the text encoder's first position ([CLS]), which has seen the whole picture."""
        seen = self.vision(pixel_values=pixels_NCSS).last_hidden_state
        read = self.text(input_ids=input_ids_NT, attention_mask=attention_mask_NT, encoder_hidden_states=seen)
        answer_N = self.head(read.last_hidden_state[:, 0]).squeeze(1)
        return (answer_N.float() - MEAN) / STD


def _vision_config(state: Mapping[str, Tensor]) -> BlipVisionConfig:
    from transformers import BlipVisionConfig

    patch, width = state["embeddings.patch_embedding.weight"].shape[-1], state["embeddings.class_embedding"].shape[-1]
    patches = state["embeddings.position_embedding"].shape[1] - 1
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_count(state, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=max(1, width // _HEAD_WIDTH),
        image_size=round(patches**0.5) * patch,
        patch_size=patch,
        layer_norm_eps=_VISION_EPS,
    )


def _text_config(state: Mapping[str, Tensor], encoder_width: int) -> BlipTextConfig:
    from transformers import BlipTextConfig

    vocabulary, width = state["embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=encoder_width,
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_count(state, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=max(1, width // _HEAD_WIDTH),
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        layer_norm_eps=_TEXT_EPS,
        is_decoder=True,  # builds the cross-attention; attention between the words stays bidirectional
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in state if (match := re.match(pattern, name))})
