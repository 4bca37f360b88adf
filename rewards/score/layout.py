"""Where pictures lie and what they were made for: the contract, and ``<prompt id>.png`` or ``<prompt id>-<n>.png``.

Any ending of a picture will do (``rewards.score.files``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rewards.score.files import ENDINGS, is_hidden, is_picture, read_picture, same_name, without_doubles
from rl.data.pictures import PictureError
from rl.registry import did_you_mean
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
    """A folder of pictures: which there are, in order."""

    @property
    def pictures(self) -> Sequence[PictureFile]: ...

    @property
    def whole_groups(self) -> bool:
        """Whether the pictures of one prompt must be scored together, however many they are."""
        ...


def load(picture: PictureFile) -> Sample | Score:
    """The live sample, or the failure that its picture is."""
    try:
        pixels = read_picture(picture.path)
    except PictureError as error:
        return Score(None, failure=str(error))
    return Sample(picture.name.removesuffix(picture.path.suffix), picture.group, picture.prompt, pixels)


class PromptIdLayout:
    """Pictures named after their prompts' ids, prompt by prompt in the prompts' order.

    Hidden files are none, unless a prompt's id begins with a dot. ``left_out``: other files that are called like one.
    Raises ``UserError`` if there are none, one's name belongs to no prompt or could belong to two, or two share one.
    """

    whole_groups = True

    def __init__(self, folder: Path, prompts: Mapping[str, Prompt]) -> None:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        names = _by_name(prompts.values())
        inside = sorted(folder.iterdir())
        files = [path for path in inside if is_picture(path) and not (is_hidden(path) and not _prompts_of(path, names))]
        self.left_out = [
            path.name for path in inside if path.is_file() and not is_picture(path) and _prompts_of(path, names)
        ]
        if not files:
            raise UserError(_no_pictures(folder, self.left_out))
        found = [PictureFile(path, path.name, _prompt_of(path, names)) for path in without_doubles(files)]
        order = {identity: place for place, identity in enumerate(prompts)}
        self.pictures = sorted(found, key=lambda one: (order[one.prompt.id], len(one.path.stem), one.path.stem))


def _by_name(prompts: Iterable[Prompt]) -> dict[str, Prompt]:
    """Raises ``UserError`` if two ids look the same."""
    names: dict[str, Prompt] = {}
    for prompt in prompts:
        other = names.setdefault(same_name(prompt.id), prompt)
        if other is not prompt:
            raise UserError(
                f"the ids {other.id!a} and {prompt.id!a} look the same, so that no picture can be named after either; "
                f"change one"
            )
    return names


def _no_pictures(folder: Path, left_out: Sequence[str]) -> str:
    there = f" (there is {left_out[0]!r})" if left_out else ""
    return (
        f"{folder} holds no pictures{there}; they must be called <prompt id>.png or <prompt id>-<n>.png, or end in one "
        f"of {' '.join(ENDINGS[1:])}"
    )


def _prompts_of(path: Path, names: Mapping[str, Prompt]) -> list[Prompt]:
    """Whose picture it can be by its name: ``a-1`` is picture 1 of ``a``, or that of ``a-1``."""
    stem = same_name(path.stem)
    numbered = _NUMBERED.fullmatch(stem)
    candidates = [names.get(stem), names.get(numbered[1]) if numbered else None]
    return [prompt for prompt in candidates if prompt is not None]


def _prompt_of(path: Path, names: Mapping[str, Prompt]) -> Prompt:
    match _prompts_of(path, names):
        case [prompt]:
            return prompt
        case [whole, before]:
            raise UserError(
                f"{path} could be the picture of prompt {whole.id!r} or picture {path.stem.rpartition('-')[2]} of "
                f"prompt {before.id!r}; change one of the two ids"
            )
    numbered = _NUMBERED.fullmatch(path.stem)
    raise UserError(
        f"{path} belongs to no prompt: "
        + (f"neither {path.stem!r} nor {numbered[1]!r} is" if numbered else f"{path.stem!r} is not")
        + f" the id of one{did_you_mean(path.stem, names)}; move the file away, or add the prompt"
    )
