"""GenEval's official layout of generated pictures: ``00000/metadata.jsonl`` and ``00000/samples/0000.png``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewards.library.geneval.rules import parse
from rewards.score.layout import PictureFile
from rl.data.lines import json_object, read_text
from rl.data.pictures import PictureError, read_file
from rl.types import Prompt, UserError


class GenEvalLayout:
    """The pictures of all prompts in order; ``without_pictures`` are the folders of prompts that have none.

    A prompt's metadata are GenEval's own (``tag``, ``prompt``, ``include``, ...).
    Raises ``UserError`` naming the folder or file that is missing or wrong.
    """

    whole_groups = False

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        numbered = sorted((path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()), key=_number)
        if not numbered:
            raise UserError(
                f"{folder} has no numbered folders: the layout is {folder}/00000/metadata.jsonl and .../samples/"
            )
        self.pictures: list[PictureFile] = []
        self.without_pictures: list[Path] = []
        for path in numbered:
            prompt = _prompt(path / "metadata.jsonl")
            files = _files(path / "samples")
            self.pictures += [PictureFile(file, name_in_folder(file), prompt) for file in files]
            if not files:
                self.without_pictures.append(path)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Any picture, turned as its EXIF says, without its alpha. Raises ``PictureError``."""
        try:
            return read_file(path)
        except PictureError as error:
            raise PictureError(f"cannot be read as a picture: {error}") from error


def name_in_folder(file: Path) -> str:
    """``00000/samples/0000.png``, by whatever path the folder is named."""
    return "/".join(file.parts[-3:])


def _number(path: Path) -> tuple[int, str]:
    return int(path.name.removesuffix(".png")), path.name


def _files(samples: Path) -> list[Path]:
    if not samples.is_dir():
        return []
    return sorted((path for path in samples.iterdir() if re.fullmatch(r"\d+\.png", path.name)), key=_number)


def _prompt(file: Path) -> Prompt:
    metadata = _metadata(file)
    text = str(metadata["prompt"])
    return Prompt(text, text, metadata)


def _metadata(file: Path) -> Mapping[str, object]:
    if not file.is_file():
        raise UserError(f"{file} is missing: write the prompt's line of GenEval's evaluation_metadata.jsonl")
    metadata = json_object(read_text(str(file)), str(file))
    for key in ("tag", "prompt", "include"):
        if not metadata.get(key):
            raise UserError(f"{file} has no {key!r}: write the prompt's line of GenEval's evaluation_metadata.jsonl")
    try:
        parse(metadata)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    return metadata
