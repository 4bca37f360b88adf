"""Prompt files: JSON lines or plain text, read the same by a run and by rewards that are used on their own.

One prompt per line: ``{"prompt": "two red circles", "tag": "counting", "include": [...]}``, optionally an ``"id"``;
every other key becomes metadata for the rewards, so GenEval's ``evaluation_metadata.jsonl`` works as it is, and so
does a line with all of them in one object, ``{"prompt": "...", "metadata": {"tag": "counting", ...}}``. Only
``"image": "cat.png"``, or ``"images": ["cat.png", "hat.png"]``, is no metadata: these files, relative to the prompt
file's folder, are the prompt's ``pictures``. They are looked at when prompts are loaded and decoded when they are used.
Without an id, a prompt is named by the hash of its content, which survives reordering of the file. ``source``
(``file:line``) is there for messages.

Options of all sources that read files: ``repeats``, whether lines that are the same in everything are taken ``once``
or all of them kept (``keep``: an up-sampled set); ``quoted``, the metadata key that the one quoted text of each prompt
becomes (``auto``: see ``rl.data.quoted``; ``null``: none).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from rl import registry
from rl.config.schema import Component
from rl.data.lines import NotJsonError, json_object, numbered_lines, other_than_json_lines, table_hint
from rl.data.pictures import Picture, PictureError
from rl.data.prompt_list import PromptList, Repeats, gathered
from rl.data.quoted import AUTO, with_quoted_text
from rl.data.row import flattened, to_prompt
from rl.registry import did_you_mean
from rl.types import Prompt, UserError

PICTURES = ("image", "images")
"""Keys of a line that name a prompt's pictures: one, or a list."""
_WANTED = {"string_type": "text", "int_type": "a whole number", "mapping_type": "a mapping", "dict_type": "a mapping"}


def jsonl(*, path: str, pictures: bool = True, quoted: str | None = AUTO, repeats: Repeats = "once") -> PromptList:
    """One JSON object per line. ``pictures=False`` leaves the keys of pictures among the metadata.

    Raises UserError on a missing or empty file and on any bad line, with its number.
    """
    found = [_of_line(line, f"{path}:{number}", path, pictures) for number, line in numbered_lines(path)]
    return read(found, path, quoted, repeats)


def text(*, path: str, quoted: str | None = AUTO, repeats: Repeats = "once") -> PromptList:
    """One prompt per line, blank lines skipped. Raises UserError on a missing or empty file, and on one that is none of
    plain text."""
    if hint := table_hint(path):
        raise UserError(f"the prompt file {path!r} is no plain text{hint}")
    lines = numbered_lines(path)
    if all(line.startswith("{") and line.endswith("}") for _, line in lines):
        raise UserError(f"the prompt file {path!r} holds JSON objects, not plain text; it is read by use: jsonl")
    return read([to_prompt({"prompt": line}, f"{path}:{number}") for number, line in lines], path, quoted, repeats)


def prompt_file(path: str) -> PromptList:
    """What a command line names: ``.txt`` is plain text, everything else JSON lines. Raises as these."""
    return text(path=path) if Path(path).suffix.lower() == ".txt" else jsonl(path=path)


def read(prompts: Iterable[Prompt], where: str, quoted: str | None, repeats: Repeats) -> PromptList:
    """The last part of every source that reads a file: repeated prompts, then quoted texts. Raises UserError."""
    found = gathered(prompts, where, repeats)
    with_texts, note = with_quoted_text(found, quoted, where)
    return PromptList(with_texts, [*found.notes, note])


def load_prompts(component: Component, key: str) -> PromptList:
    """The prompts of ``data.train`` or ``data.eval``; ``key`` names it in messages and notes.

    Raises UserError if there are none, two share an id, or one has no text.
    """
    try:
        found = checked_call(registry.resolve("prompts", component.use), component.options)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    found = found if isinstance(found, PromptList) else gathered(found, key)
    return PromptList(found, [f"{key}: {note}" for note in found.notes])


def checked_call(source: Callable[..., Iterable[Prompt]], options: Mapping[str, Any]) -> Iterable[Prompt]:
    """Calls one of our own sources with options of the annotated types; another's annotations are its own affair.

    Raises UserError naming the first option that is of another type, and what the source raises.
    """
    if not source.__module__.startswith("rl."):
        return source(**options)
    try:
        return validate_call(config=ConfigDict(strict=True))(source)(**options)
    except ValidationError as wrong:
        first, *others = wrong.errors(include_url=False)
        same = [first, *(other for other in others if other["loc"][0] == first["loc"][0])]
        wanted = " or ".join(
            _WANTED.get(error["type"], error["msg"].removeprefix("Input should be ")) for error in same
        )
        raise UserError(f"options.{first['loc'][0]} is {first['input']!r}; it must be {wanted}") from wrong


def checked_picture(picture: Picture, where: str) -> Picture:
    """The same picture. Raises UserError if its header can't be read or tells of too many pixels."""
    try:
        picture.check()
    except PictureError as error:
        raise UserError(
            f"{where}: {picture.name} can't be read ({error}); replace it, or take it out of the prompt's line"
        ) from error
    return picture


def _of_line(line: str, where: str, path: str, pictures: bool) -> Prompt:
    try:
        row = json_object(line, where)
    except NotJsonError as error:
        raise UserError(f"{error}{other_than_json_lines(path)}") from error
    row = flattened(row, where)
    return to_prompt(row, where, _picture_files(row, where, Path(path).parent) if pictures else {})


def _picture_files(row: dict[str, Any], where: str, folder: Path) -> dict[str, list[Picture]]:
    """What the line names under "image" or "images". Raises UserError if it is no list of picture files."""
    given = [(key, row[key]) for key in PICTURES if row.get(key) is not None]
    if len(given) > 1:
        raise UserError(f'{where}: this line has "image" and "images"; put all of them into "images"')
    found = {}
    for key, value in given:
        paths = value if key == "images" else [value]
        if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
            wanted = "the path of a picture" if key == "image" else "a list of paths of pictures"
            raise UserError(f'{where}: "{key}" must be {wanted}, got {value!r}')
        found[key] = [_picture_file(folder / path, where) for path in paths]
    return found


def _picture_file(file: Path, where: str) -> Picture:
    if not file.is_file():
        near = did_you_mean(file.name, [path.name for path in file.parent.glob("*")])
        raise UserError(
            f"{where}: there is no picture {str(file)!r} (paths start at the prompt file's folder; where the key means "
            f"something else, give the prompts the option pictures: false){near}"
        )
    return checked_picture(Picture(file), where)
