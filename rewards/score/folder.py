"""A folder of pictures named after their prompts: ``<prompt id>.png``, or ``<prompt id>-<n>.png`` for several."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.pictures import PictureError, decode
from rewards.reference import file_hash
from rl.types import Prompt, Sample, Score, UserError

_NUMBERED = re.compile(r"(.+)-(\d+)")
_MAX_PIXELS = 64 * 2**20


@dataclass(frozen=True)
class PictureFile:
    """A picture and the prompt it was made for."""

    path: Path
    prompt: Prompt

    def content(self) -> str:
        """A hash of what is scored: the file, the prompt (but not where its line stands) and its reference file."""
        metadata = {key: value for key, value in self.prompt.metadata.items() if key != "source"}
        asked = [self.prompt.id, self.prompt.text, metadata, file_hash(metadata)]
        prompt = json.dumps(asked, sort_keys=True)
        return hashlib.sha256(self._bytes() + prompt.encode()).hexdigest()[:16]

    def load(self) -> Sample | Score:
        """The live sample, named by the file's stem, or the failure that its picture is."""
        try:
            picture = decode(self._bytes(), "png", _MAX_PIXELS)
        except PictureError as error:
            return Score(None, failure=str(error))
        return Sample(self.path.stem, self.prompt.id, self.prompt, picture)

    def _bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UserError(f"the picture {self.path} can't be read: {error}") from error


def find_pictures(folder: Path, prompts: Mapping[str, Prompt]) -> list[PictureFile]:
    """The folder's PNGs, prompt by prompt in the prompts' order.

    Raises ``UserError`` if there are none, or one's name belongs to no prompt or could belong to two.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = [PictureFile(path, _prompt_of(path, prompts)) for path in folder.glob("*.png")]
    if not found:
        raise UserError(f"{folder} holds no .png files; they must be called <prompt id>.png or <prompt id>-<n>.png")
    order = {identity: place for place, identity in enumerate(prompts)}
    return sorted(found, key=lambda picture: (order[picture.prompt.id], len(picture.path.stem), picture.path.stem))


def in_batches(pictures: Sequence[PictureFile], size: int) -> list[list[PictureFile]]:
    """At most ``size`` each, except that the pictures of one prompt, which must be neighbours, stay together."""
    batches: list[list[PictureFile]] = []
    groups: dict[str, list[PictureFile]] = {}
    for picture in pictures:
        groups.setdefault(picture.prompt.id, []).append(picture)
    for group in groups.values():
        if batches and len(batches[-1]) + len(group) <= size:
            batches[-1].extend(group)
        else:
            batches.append(group)
    return batches


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
