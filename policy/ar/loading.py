"""The language model from its folder, and the connector through which the decoder reads it; nothing of the decoder."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from policy.folder import read_policy_config, resolve_folder
from policy.json_file import read_json
from policy.layout import TokenLayout
from rl.types import UserError

ModelT = TypeVar("ModelT")


@dataclass(frozen=True)
class LanguagePart:
    """What a process needs of a policy that only trains its language model."""

    folder: Path
    layout: TokenLayout
    ar: Qwen3ForCausalLM

    @classmethod
    def load(cls, folder: str | Path, dtype: str = "float32") -> LanguagePart:
        """Of a policy folder or an embedded name, on the CPU. Raises: UserError on a missing or mismatched part."""
        folder = resolve_folder(folder)
        disable_progress_bar()
        return cls(folder, read_policy_config(folder)[0], load_language_model(folder, getattr(torch, dtype)))


def load_language_model(folder: Path, dtype: torch.dtype) -> Qwen3ForCausalLM:
    """Raises: UserError if its weights are not those of its configuration."""
    options = {"dtype": dtype, "attn_implementation": "sdpa", "output_loading_info": True}
    with reading(folder / "ar") as part:
        return complete(Qwen3ForCausalLM.from_pretrained(part, **options)).eval()


def load_connector(folder: Path) -> nn.Sequential:
    """Raises: UserError as ``load_language_model``."""
    with reading(folder / "connector") as part:
        config = read_json(part / "config.json")
        connector = make_connector(config["hidden_size"], config["caption_channels"])
        connector.load_state_dict(load_file(part / "model.safetensors"))
    return connector


def make_connector(hidden_size: int, caption_channels: int) -> nn.Sequential:
    """Linear - GELU(tanh) - Linear - RMSNorm, weight initialised to sqrt(5.5) (BLIP3o-NEXT, arXiv 2510.15857)."""
    norm = nn.RMSNorm(caption_channels, eps=1e-5)
    nn.init.constant_(norm.weight, math.sqrt(5.5))
    return nn.Sequential(
        nn.Linear(hidden_size, caption_channels),
        nn.GELU(approximate="tanh"),
        nn.Linear(caption_channels, caption_channels),
        norm,
    )


@contextmanager
def reading(part: Path) -> Iterator[Path]:
    """Around the loading of a part. Raises: UserError naming it: its files were changed or are another model's."""
    try:
        yield part
    except UserError:
        raise
    except Exception as error:  # of four libraries, each with errors of its own
        reason = " ".join(str(error).split())
        raise UserError(
            f"{part}: its weights are not those of its config.json ({type(error).__name__}: {reason[:300]}); take both "
            "from one model"
        ) from error


def complete(loaded: tuple[ModelT, Mapping[str, Collection[str]]]) -> ModelT:
    """What is missing would be random, and what is left over not there, both without a word.

    Raises: ValueError with the first of them.
    """
    model, found = loaded
    for names, what in ((found["missing_keys"], "missing"), (found["unexpected_keys"], "left over")):
        if names:
            raise ValueError(f"{len(names)} weights are {what}, first {min(names)!r}")
    return model
