"""A policy folder of BLIP3o-NEXT's shapes with random weights, made on the spot: speed and memory need no knowledge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor

from policy.conditions import AR_HIDDEN
from policy.convert import model_shapes
from policy.convert.part_configs import CONFIGURED, read_part_configs, scheduler_config
from policy.json_file import read_json, write_json
from policy.layout import TokenLayout
from policy.parts import CONFIG_FILE, PARTS

_CODEBOOK = "vision_tower.bottleneck.regularizer.embedding.weight"
_STRIDE = 32  # pixels of a picture to one of the latents


@dataclass(frozen=True)
class PolicySize:
    """``parts``: transformer, vae and image tokenizer of other sizes than the published ones, whole configurations."""

    hidden: int
    inside: int
    layers: int
    heads: tuple[int, int] = (16, 8)
    """Of queries, and of keys and values."""
    head: int = 128
    vocabulary: int = 217_210
    first: int = 151_669
    """Id of <im_start>; <im_end>, three scale tokens and the image tokens follow, up to the last of the vocabulary."""
    grid: int = 27
    code: int = 1536
    parts: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def layout(self) -> TokenLayout:
        start = self.first + 5
        codes = self.vocabulary - start
        special = (self.first, self.first + 1, self.first + 2)
        return TokenLayout(self.vocabulary, start, codes, self.grid**2, *special, grid=(self.grid, self.grid))

    @property
    def language_model(self) -> dict[str, Any]:
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "bos_token_id": 0,
            "eos_token_id": 0,
            "head_dim": self.head,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.inside,
            "max_position_embeddings": 4096,
            "num_attention_heads": self.heads[0],
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.heads[1],
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000},
            "tie_word_embeddings": True,
            "vocab_size": self.vocabulary,
        }


_SMALL_PARTS: dict[str, dict[str, Any]] = {
    "transformer": {
        "_class_name": "SanaTransformer2DModel",
        "attention_head_dim": 8,
        "caption_channels": 24,
        "cross_attention_dim": 16,
        "cross_attention_head_dim": 8,
        "in_channels": 4,
        "interpolation_scale": None,
        "mlp_ratio": 2.0,
        "num_attention_heads": 2,
        "num_cross_attention_heads": 2,
        "num_layers": 1,
        "out_channels": 4,
        "patch_size": 1,
        "qk_norm": "rms_norm_across_heads",
        "sample_size": 2,
    },
    "vae": {
        "_class_name": "AutoencoderDC",
        "attention_head_dim": 4,
        **{f"{one}_block_out_channels": [8] * 6 for one in ("encoder", "decoder")},
        **{f"{one}_block_types": ["ResBlock"] * 5 + ["EfficientViTBlock"] for one in ("encoder", "decoder")},
        **{f"{one}_layers_per_block": [1] * 6 for one in ("encoder", "decoder")},
        **{f"{one}_qkv_multiscales": [[], [], [], [], [], [5]] for one in ("encoder", "decoder")},
        "downsample_block_type": "Conv",
        "latent_channels": 4,
        "scaling_factor": 0.41407,
        "upsample_block_type": "interpolate",
    },
    "image_tokenizer": {
        "kind": "ta_tok",
        "codes": 64,
        "picture": 56,
        "scale": 1,
        "vision": {
            "hidden_size": 48,
            "image_size": 56,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "patch_size": 14,
        },
    },
}
SIZES = {
    "0.6B": PolicySize(hidden=1024, inside=3072, layers=28),
    "1.7B": PolicySize(hidden=2048, inside=6144, layers=28),
    "small": PolicySize(
        hidden=64,
        inside=96,
        layers=2,
        heads=(2, 1),
        head=32,
        vocabulary=256 + 5 + 64,
        first=256,
        grid=4,
        code=24,
        parts=_SMALL_PARTS,
    ),
}
"""Language models by the name of their Qwen3; ``small`` is a whole policy for a CPU."""


def make_policy(folder: Path, size: PolicySize, *, device: str, seed: int = 0) -> None:
    """Writes every part in bfloat16; random numbers are drawn on ``device``, which takes seconds on a GPU."""
    torch.manual_seed(seed)
    preset = {part: one.content for part, one in read_part_configs(folder).items()}
    configs = {part: dict(size.parts.get(part, preset[part])) for part in CONFIGURED}
    channels = configs["transformer"]["caption_channels"]
    configs |= {"ar": size.language_model, "connector": {"hidden_size": size.hidden, "caption_channels": channels}}
    table = {_CODEBOOK: (size.layout.num_image_tokens, size.code)}
    shapes = {
        "ar": model_shapes.language_model_shapes(configs["ar"]),
        "connector": model_shapes.connector_shapes(size.hidden, channels),
        "transformer": model_shapes.transformer_shapes(configs["transformer"]),
        "vae": model_shapes.vae_shapes(configs["vae"]),
        "image_tokenizer": model_shapes.image_tokenizer_shapes(configs["image_tokenizer"], table),
    }
    for part, of_part in shapes.items():
        (folder / part).mkdir(parents=True)
        write_json(folder / part / "config.json", configs[part])
        tensors = {name: _random(name, shape, device) for name, shape in of_part.items() if name != "lm_head.weight"}
        save_file(tensors, folder / part / PARTS[part][-1], metadata={"format": "pt"})
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler_config())
    _write_tokenizer(folder / "tokenizer")
    template = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    write_json(
        folder / CONFIG_FILE, {"layout": asdict(size.layout), "prompt_template": template, "condition": AR_HIDDEN}
    )


def set_pixels(folder: Path, pixels: int) -> None:
    """Side of the pictures from now on; the weights are the same for every side."""
    file = folder / "transformer" / "config.json"
    write_json(file, {**read_json(file), "sample_size": pixels // _STRIDE})


def _random(name: str, shape: tuple[int, ...], device: str) -> Tensor:
    """Such that numbers keep their size from layer to layer."""
    if len(shape) == 1:
        ones = name.endswith("weight")  # of a norm
        return torch.full(shape, float(ones), dtype=torch.bfloat16)
    made = torch.randn(shape, device=device, dtype=torch.bfloat16)
    return made.div_(sqrt(prod(shape[1:]))).cpu()


def _write_tokenizer(folder: Path) -> None:
    """Bytes: a prompt has about as many of them as one of BLIP3o-NEXT has tokens with its two turns around it."""
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
