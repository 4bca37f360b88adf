"""Models and processors of transformers, by folder or by hub name, loaded so that a wrong or partial one is an error.

Weights that are silently left random are why model rewards are known to score everything 0: a checkpoint that lacks a
parameter is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel

from rewards.library.models.hub import check_reachable, check_revision, out_of_reach
from rewards.library.models.weights import Runtime
from rl.types import UserError

ModelT = TypeVar("ModelT", bound=PreTrainedModel)
# Where none of these is, there is no processor and no tokenizer.
_PROCESSOR_FILES = (
    "preprocessor_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json", "vocab.txt",
    "config.json",
)  # fmt: skip


def load_model(
    model_class: type[ModelT],
    checkpoint: str,
    runtime: Runtime,
    *,
    option: str = "checkpoint",
    revision: str | None = None,
) -> ModelT:
    """``model_class`` with all its weights, in float32 on the CPU: see ``Runtime.place``.

    Raises ``UserError`` naming the option if the checkpoint can't be had, is another model's or not complete.
    """
    check_revision(checkpoint, revision, at=runtime.at)
    check_reachable(checkpoint, ("config.json",), at=runtime.at, option=option, revision=revision)
    at = f"{runtime.at}.{option}"
    try:
        found = PretrainedConfig.get_config_dict(checkpoint, revision=revision)[0].get("model_type")
        if found != model_class.config_class.model_type:
            raise ValueError(f"it holds a model of type {found!r}, not {model_class.config_class.model_type!r}")
        module, report = model_class.from_pretrained(
            checkpoint, revision=revision, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if Path(checkpoint).is_dir() or not isinstance(error, OSError):
            raise UserError(
                f"{at}: {checkpoint} can't be loaded as {model_class.__name__} ({_short(error)})"
            ) from error
        raise out_of_reach(checkpoint, error, at=runtime.at, option=option, revision=revision) from error
    parameters = {name for name, _ in module.named_parameters()}
    if missing := sorted(parameters & set(report["missing_keys"])):
        raise UserError(
            f"{at}: {checkpoint} lacks the weights {missing[0]} (and {len(missing) - 1} more): it is another model's"
        )
    return module


def load_processor(
    processor_class: Any,
    checkpoint: str,
    runtime: Runtime,
    *,
    option: str = "checkpoint",
    revision: str | None = None,
) -> Any:
    """What turns pictures or texts into a model's input. Raises ``UserError`` naming the option."""
    check_reachable(checkpoint, _PROCESSOR_FILES, at=runtime.at, option=option, revision=revision)
    try:
        return processor_class.from_pretrained(checkpoint, revision=revision)
    except (OSError, ValueError) as error:
        if Path(checkpoint).is_dir():
            raise UserError(
                f"{runtime.at}.{option}: {checkpoint} holds no processor that {processor_class.__name__} can load "
                f"({_short(error)}); download the whole of it"
            ) from error
        raise out_of_reach(checkpoint, error, at=runtime.at, option=option, revision=revision) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
