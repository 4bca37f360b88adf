"""Where pictures lie and what they were made for: the contract, and ``<prompt id>.png`` or ``<prompt id>-<n>.png``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rewards.pictures import decode
from rl.data.pictures import MOST_PIXELS, PictureError
from rl.types import Prompt, Sample, Score, UserError

_NUMBERED = re.compile(r"(.+)-(\d+)")


@dataclass(frozen=True)
class PictureFile:
    """A picture and the prompt it was made for; ``name`` is its path inside the folder, whatever that is called."""

    path: Path
    name: str
    prompt: Prompt

    @property
    def group(self) -> str:
        return self.prompt.id


class Layout(Protocol):
    """A folder of pictures: which there are, in order, and how one is read."""

    @property
    def pictures(self) -> Sequence[PictureFile]: ...

    @property
    def whole_groups(self) -> bool:
        """Whether the pictures of one prompt must be scored together, however many they are."""
        ...

    def read(self, path: Path) -> NDArray[np.uint8]:
        """(H, W, 3) RGB. Raises ``PictureError`` saying why the file cannot be scored."""
        ...


def load(layout: Layout, picture: PictureFile) -> Sample | Score:
    """The live sample, or the failure that its picture is."""
    try:
        pixels = layout.read(picture.path)
    except PictureError as error:
        return Score(None, failure=str(error))
    return Sample(picture.name.removesuffix(".png"), picture.group, picture.prompt, pixels)


class PromptIdLayout:
    """Pictures named after their prompts' ids, prompt by prompt in the prompts' order.

    Raises ``UserError`` if there are none, or one's name belongs to no prompt or could belong to two.
    """

    whole_groups = True

    def __init__(self, folder: Path, prompts: Mapping[str, Prompt]) -> None:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        found = [PictureFile(path, path.name, _prompt_of(path, prompts)) for path in folder.glob("*.png")]
        if not found:
            raise UserError(f"{folder} holds no .png files; they must be called <prompt id>.png or <prompt id>-<n>.png")
        order = {identity: place for place, identity in enumerate(prompts)}
        self.pictures = sorted(found, key=lambda one: (order[one.prompt.id], len(one.path.stem), one.path.stem))

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The lossless PNG. Raises ``PictureError``."""
        return decode(file_bytes(path), "png", MOST_PIXELS)


def file_bytes(path: Path) -> bytes:
    """Raises ``UserError`` if the picture has gone since the folder was listed."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"the picture {path} can't be read: {error}") from error


def _prompt_of(path: Path, prompts: Mapping[str, Prompt]) -> Prompt:
    numbered = _NUMBERED.fullmatch(path.stem)
    whole, before = prompts.get(path.stem), prompts.get(numbered[1]) if numbered else None
    if whole and before:
        raise UserError(
            f"{path} could be the picture of prompt {whole.id!r} or picture {numbered[2] if numbered else ''} of "
            f"prompt {before.id!r}; change one of the two ids"
        )
    prompt = whole or before
    if prompt is None:
        raise UserError(
            f"{path} belongs to no prompt: neither {path.stem!r}"
            + (f" nor {numbered[1]!r}" if numbered else "")
            + " is the id of one; move the file away, or add the prompt"
        )
    return prompt
