"""GenEval's official layout of generated pictures: ``00000/metadata.jsonl`` and ``00000/samples/0000.png``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rewards.library.geneval.rules import parse
from rewards.score.files import is_hidden, is_picture, without_doubles
from rewards.score.layout import PictureFile
from rl.data.lines import json_object, read_text
from rl.types import Prompt, UserError


class GenEvalLayout:
    """The pictures of all prompts in order; ``without_pictures`` are the folders of prompts that have none, with why.

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
        self.without_pictures: dict[Path, str] = {}
        for path in numbered:
            prompt = _prompt(path / "metadata.jsonl")
            files = _files(path / "samples")
            self.pictures += [PictureFile(file, name_in_folder(file), prompt) for file in files]
            if not files:
                self.without_pictures[path] = _nothing_in(path / "samples")


def name_in_folder(file: Path) -> str:
    """``00000/samples/0000.png``, by whatever path the folder is named."""
    return "/".join(file.parts[-3:])


def _number(path: Path) -> tuple[int, str]:
    return int(path.stem), path.name


def _files(samples: Path) -> list[Path]:
    """The pictures with a number for a name, ``0000.png`` (official), ``3.JPG``; others are not of the benchmark."""
    if not samples.is_dir():
        return []
    numbered = [path for path in samples.iterdir() if path.stem.isdecimal() and is_picture(path)]
    return without_doubles(sorted(numbered, key=_number))


def _nothing_in(samples: Path) -> str:
    if not samples.is_dir():
        return "no folder samples/"
    others = sorted(path.name for path in samples.iterdir() if not is_hidden(path))
    if not others:
        return "no pictures in samples/"
    return f"no pictures in samples/ that are called 0000.png, 0001.png, ... (there is {others[0]!r})"


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
