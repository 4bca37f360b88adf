"""A BLIP3o-NEXT checkpoint (arXiv 2510.15857) as its authors' code writes it: recognised, sorted and checked.

Told by what it holds, never by ``model_type``: the same code writes ``qwen3``, ``blip3o_qwen_grpo`` and others there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policy.conditions import ATTENDED, BESIDE_NOISE
from policy.convert.checkpoint import read_tensors
from policy.convert.keys import EMBEDDINGS, PREFIXES, sort_keys
from policy.convert.part_configs import PartConfig, read_part_configs
from policy.convert.tensor_file import StoredTensor
from policy.json_file import JsonObject, read_json
from policy.layout import TokenLayout
from policy.parts import CONFIG_FILE, REFERENCE_PART
from rl.types import UserError

TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "Please generate image based on the following caption: {prompt}<|im_end|>\n<|im_start|>assistant\n"
)
"""Qwen3's chat template with the published code's system and user turns, up to where the answer begins."""
EDIT_TEMPLATE = TEMPLATE.replace(
    "Please generate image based on the following caption: {prompt}",
    "Please edit this image according to the following instruction: {prompt}.\n<|vision_start|>{picture}<|vision_end|>",
)
"""The same of the published editing code, with the picture's own tokens."""
_MARK = "image_start_tag_id"
_EDITS, _NOT_ATTENDED, _BESIDE = "use_und_image_vae", "only_use_und_image_vae_as_noise", "use_und_image_vae_as_noise"
_NAMES = {
    "vocab_size": "embedding rows",
    _MARK: "<im_start>",
    "image_end_tag_id": "<im_end>",
    "scale_start_token_id": "<S0>",
    "image_start_token_id": "<I0>",
    "image_end_token_id": "the last image token",
}
_OF_QWEN3 = (
    *("attention_bias", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "head_dim", "hidden_act"),
    *("hidden_size", "initializer_range", "intermediate_size", "layer_types", "max_position_embeddings"),
    *("max_window_layers", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"),
    *("rope_parameters", "rope_scaling", "rope_theta", "sliding_window", "tie_word_embeddings", "torch_dtype", "dtype"),
    *("use_sliding_window", "vocab_size"),
)


@dataclass(frozen=True)
class Blip3oNext:
    """``parts``: part of a policy folder -> name there -> tensor; ``unread``: keys of picture editing, in no part."""

    folder: Path
    config: JsonObject
    configs: Mapping[str, PartConfig]
    parts: Mapping[str, Mapping[str, StoredTensor]]
    unread: list[str]

    @classmethod
    def read(cls, folder: Path, part_configs: Path) -> Blip3oNext:
        """``part_configs``: see ``part_configs.py``. Raises: UserError if it is another model, or not whole."""
        config = recognised(folder)
        tensors = read_tensors(folder)
        keys = sort_keys(tensors)
        for prefix in (
            EMBEDDINGS,
            *(prefix for part, prefix in PREFIXES.items() if part not in ("ar", REFERENCE_PART)),
        ):
            if not any(key.startswith(prefix) for key in tensors):
                raise UserError(f"{folder} is no BLIP3o-NEXT checkpoint: it holds no {prefix}*; give one that does.")
        if keys.unknown:
            more = f" (and {len(keys.unknown) - 1} more)" if keys.unknown[1:] else ""
            raise UserError(
                f"{folder}: {keys.unknown[0]}{more} belongs to no part of BLIP3o-NEXT; give a checkpoint as the "
                f"published code writes it."
            )
        parts = {part: {name: tensors[PREFIXES[part] + name] for name in names} for part, names in keys.parts.items()}
        reference = parts.pop(REFERENCE_PART)
        unread = keys.unread
        if ATTENDED in reference_ways(config, folder):
            parts[REFERENCE_PART] = reference
        else:  # built and saved, and never called
            unread = [*unread, *(PREFIXES[REFERENCE_PART] + name for name in reference)]
        return cls(folder, config, read_part_configs(part_configs), parts, unread)

    @property
    def edits(self) -> bool:
        """It comes from the code that edits, whether its decoder sees the picture or its tokens alone."""
        return _EDITS in self.config

    @property
    def reference(self) -> tuple[str, ...]:
        """How the decoder sees a picture that is to be changed."""
        return reference_ways(self.config, self.folder)

    @property
    def language_model_config(self) -> JsonObject:
        """What vLLM and transformers 5 read; ``rope_theta`` in their spelling and in the older one."""
        kept = {key: self.config[key] for key in _OF_QWEN3 if self.config.get(key) is not None}
        if "rope_parameters" not in kept:
            kept["rope_parameters"] = {"rope_type": "default", "rope_theta": self.config["rope_theta"]}
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **kept, "use_cache": True}

    @property
    def tied(self) -> bool:
        """The head is the embedding table; a checkpoint may hold a second copy all the same."""
        return bool(self.config.get("tie_word_embeddings", False))

    @property
    def scale(self) -> int:
        """Neighbours, scale x scale, that the image tokenizer averages into one token."""
        return int(self.configs["image_tokenizer"].content["scale"])

    def layout(self) -> TokenLayout:
        """Raises: UserError on ids that contradict each other."""
        config, vision = self.config, self.configs["image_tokenizer"].content["vision"]
        side = vision["image_size"] // vision["patch_size"] // self.scale
        layout = TokenLayout(
            vocab_size=config["vocab_size"],
            image_start_id=config["image_start_token_id"],
            num_image_tokens=config["image_end_token_id"] - config["image_start_token_id"] + 1,
            tokens_per_image=side * side,
            im_start_id=config["image_start_tag_id"],
            im_end_id=config["image_end_tag_id"],
            scale_id=config["scale_start_token_id"] + self.scale - 1,
            grid=(side, side),
        )
        if problems := layout.problems():
            raise UserError(f"{self.folder / 'config.json'}: {'; '.join(problems)}; restore the file.")
        return layout


def reference_ways(config: JsonObject, folder: Path) -> tuple[str, ...]:
    """Of a checkpoint's ``config.json``. Raises: UserError if it reads pictures as features, which is not built."""
    if config.get("use_tar_siglip_features"):
        raise UserError(
            f"{folder / 'config.json'}: use_tar_siglip_features is true, and prompts with features of pictures in "
            f"place of their tokens are not built yet; give a checkpoint without."
        )
    if not config.get(_EDITS):
        return ()
    return tuple(
        way for way, on in ((ATTENDED, not config.get(_NOT_ATTENDED)), (BESIDE_NOISE, config.get(_BESIDE))) if on
    )


def is_blip3o_next(folder: Path) -> bool:
    """By its ``config.json`` alone."""
    return (folder / "config.json").is_file() and _MARK in read_json(folder / "config.json")


def recognised(folder: Path) -> JsonObject:
    """Its ``config.json``. Raises: UserError if it is no such checkpoint, or the file lacks something."""
    if (folder / CONFIG_FILE).is_file():
        raise UserError(f"{folder} is a policy folder already; give it as policy.path.")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no BLIP3o-NEXT checkpoint: it has no config.json; give the folder that has it.")
    if not is_blip3o_next(folder):
        raise UserError(
            f"{folder} is no BLIP3o-NEXT checkpoint: its config.json has no {_MARK}; give the folder of one."
        )
    config = read_json(folder / "config.json")
    missing = [f"{key} ({name})" for key, name in _NAMES.items() if not isinstance(config.get(key), int)]
    if config.get("rope_theta") is None and "rope_parameters" not in config:
        missing.append("rope_theta (the base of its positions)")
    if missing:
        raise UserError(f"{folder / 'config.json'} lacks {', '.join(missing)}; restore the file.")
    if config.get("tie_word_embeddings") not in (True, False):
        raise UserError(f"{folder / 'config.json'}: tie_word_embeddings must be true or false; restore the file.")
    return config
