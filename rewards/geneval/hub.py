"""Checkpoints by folder or by hub name, loaded so that a wrong or incomplete one is an error and never a guess.

Weights that are silently left random are why detectors are known to score everything 0: a checkpoint that lacks a
parameter is refused. Only safetensors are read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from rl.types import UserError

_FILES = ("*.json", "*.txt", "*.safetensors")


def model_folder(checkpoint: str, option: str = "checkpoint") -> Path:
    """The folder ``checkpoint``, or the local copy of that hub repository, downloaded if need be.

    Raises ``UserError`` naming what to download and the option if there is neither.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    if (cached := _cached(checkpoint, option)) is not None:
        return cached
    try:
        return Path(snapshot_download(checkpoint, allow_patterns=list(_FILES)))
    except OSError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(
            f"option `{option}`: {checkpoint!r} is not a folder, not in the local hub cache, and cannot be downloaded "
            f"({reason}); where there is a network type `hf download {checkpoint} --local-dir FOLDER`, "
            f"then set `{option}` to that folder"
        ) from error


def _cached(checkpoint: str, option: str) -> Path | None:
    try:
        folder = Path(snapshot_download(checkpoint, local_files_only=True))
    except HFValidationError as error:
        raise UserError(f"option `{option}`: there is no folder {checkpoint!r}, nor is it a hub name") from error
    except OSError:  # nothing of it is in the cache
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def load_model(model_class: Any, folder: Path, model_type: str, device: torch.device) -> Any:
    """``model_class`` with the folder's weights, in evaluation mode on ``device``.

    Raises ``UserError`` if the folder holds another kind of model, no safetensors, or not every parameter.
    """
    found = _model_type(folder)
    if found != model_type:
        raise UserError(f"option `checkpoint`: {folder} holds a model of type {found!r}, not {model_type!r}")
    try:
        model, info = model_class.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    except OSError as error:
        raise UserError(f"option `checkpoint`: {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    if missing := sorted({name for name, _ in model.named_parameters()} & set(info["missing_keys"])):
        raise UserError(
            f"option `checkpoint`: {folder} lacks {len(missing)} weights of the model (the first: {missing[0]}); "
            f"download it anew"
        )
    return model.to(device).eval()


def _model_type(folder: Path) -> str | None:
    try:
        return json.loads((folder / "config.json").read_text()).get("model_type")
    except FileNotFoundError as error:
        raise UserError(f"option `checkpoint`: {folder} has no config.json; name a checkpoint's folder") from error
    except json.JSONDecodeError as error:
        raise UserError(f"option `checkpoint`: {folder / 'config.json'} is not JSON ({error})") from error
