"""The official layout of generated pictures: ``FOLDER/00000/metadata.jsonl`` and ``FOLDER/00000/samples/0000.png``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from rewards.library.geneval.rules import parse
from rl.types import UserError


@dataclass(frozen=True)
class PromptFolder:
    """One prompt: its GenEval metadata (``tag``, ``prompt``, ``include``, ...) and its pictures in order."""

    path: Path
    metadata: Mapping[str, Any]
    pictures: tuple[Path, ...]


def read_layout(folder: Path) -> list[PromptFolder]:
    """All prompts of ``folder`` in order. Raises ``UserError`` naming the folder or file that is missing or wrong."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    numbered = sorted((path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()), key=_number)
    if not numbered:
        raise UserError(
            f"{folder} has no numbered folders: the layout is {folder}/00000/metadata.jsonl and .../samples/"
        )
    return [PromptFolder(path, _metadata(path / "metadata.jsonl"), _pictures(path / "samples")) for path in numbered]


def _number(path: Path) -> tuple[int, str]:
    return int(re.match(r"\d+", path.name).group()), path.name  # type: ignore[union-attr]


def _pictures(samples: Path) -> tuple[Path, ...]:
    if not samples.is_dir():
        return ()
    return tuple(sorted((p for p in samples.iterdir() if re.fullmatch(r"\d+\.png", p.name)), key=_number))


def _metadata(file: Path) -> Mapping[str, Any]:
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing: write the prompt's line of GenEval's evaluation_metadata.jsonl") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not one JSON object: {error}") from error
    for key in ("tag", "prompt", "include"):
        if not isinstance(metadata, dict) or not metadata.get(key):
            raise UserError(f"{file} has no {key!r}: write the prompt's line of GenEval's evaluation_metadata.jsonl")
    try:
        parse(metadata)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    return metadata


def read_picture(file: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, turned as its EXIF says. Raises ``ValueError`` saying why the file cannot be read."""
    try:
        with Image.open(file) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read as a picture: {' '.join(str(error).split())}") from error
