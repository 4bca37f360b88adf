"""Prompt files: JSON lines or plain text, read the same by a run and by rewards that are used on their own.

One prompt per line: ``{"prompt": "two red circles", "tag": "counting", "include": [...]}``, optionally an ``"id"``;
every other key becomes metadata for the rewards, so GenEval's ``evaluation_metadata.jsonl`` works as it is. Only
``"image": "cat.png"``, or ``"images": ["cat.png", "hat.png"]``, is no metadata: these files, relative to the prompt
file's folder, are the prompt's ``pictures``. They are looked at when prompts are loaded and decoded when they are used.
Without an id, a prompt is named by the hash of its content, which survives reordering of the file. ``source``
(``file:line``) is there for messages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rl import registry
from rl.config.schema import Component
from rl.data.pictures import Picture, PictureError
from rl.registry import did_you_mean
from rl.types import Prompt, UserError

PICTURES = ("image", "images")
"""Keys of a line that name a prompt's pictures: one, or a list."""


def jsonl(*, path: str, pictures: bool = True) -> list[Prompt]:
    """One JSON object per line. ``pictures=False`` leaves the keys of pictures among the metadata.

    Raises UserError on a missing or empty file and on any bad line, with its number.
    """
    found = []
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: this line is not valid JSON ({error.msg}, column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
            raise UserError(f"{where}: this line is not valid JSON ({error})") from None
        found.append(to_prompt(row, where, _picture_files(row, where, Path(path).parent) if pictures else {}))
    return checked(found, path)


def text(*, path: str) -> list[Prompt]:
    """One prompt per line, blank lines skipped. Raises UserError on a missing or empty file and on repeated lines."""
    return checked([to_prompt({"prompt": line}, f"{path}:{number}") for number, line in _lines(path)], path)


def _lines(path: str) -> Iterable[tuple[int, str]]:
    try:
        content = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(Path(path).name, [p.name for p in Path(path).parent.glob("*")])
        raise UserError(f"there is no prompt file {path!r}{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the prompt file {path!r} can't be read: {error}") from error
    # Not splitlines(): a prompt may hold U+2028 and other characters that it takes for line ends.
    numbered = [(number, line.strip()) for number, line in enumerate(content.split("\n"), 1)]
    if not any(line for _, line in numbered):
        raise UserError(f"the prompt file {path!r} is empty; write one prompt per line")
    return [(number, line) for number, line in numbered if line]


def _picture_files(row: object, where: str, folder: Path) -> dict[str, list[Picture]]:
    """What the line names under "image" or "images". Raises UserError if it is no list of picture files."""
    given = [(key, row[key]) for key in PICTURES if row.get(key) is not None] if isinstance(row, dict) else []
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


def checked_picture(picture: Picture, where: str) -> Picture:
    """The same picture. Raises UserError if its header can't be read or tells of too many pixels."""
    try:
        picture.check()
    except PictureError as error:
        raise UserError(
            f"{where}: {picture.name} can't be read ({error}); replace it, or take it out of the prompt's line"
        ) from error
    return picture


def to_prompt(row: Any, where: str, pictures: Mapping[str, Sequence[Picture]] = {}) -> Prompt:
    """One row as a prompt; ``where`` is its source. Raises UserError if it is none.

    ``pictures``: what it holds under a key, which then is no metadata.
    """
    if not isinstance(row, dict):
        raise UserError(f'{where}: this line must be a JSON object such as {{"prompt": "two red circles"}}')
    if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        near = did_you_mean("prompt", row) if "prompt" not in row else ""
        raise UserError(f'{where}: this line has no "prompt" (non-empty text){near}')
    rest: dict[str, Any] = {key: value for key, value in row.items() if key not in ("prompt", "id")}
    identity = row["id"] if "id" in row else _content_id(row["prompt"], rest)
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise UserError(f'{where}: "id" must be text or a whole number, got {identity!r}')
    metadata = {key: value for key, value in rest.items() if key not in pictures}
    return Prompt(str(identity), row["prompt"], metadata, tuple(chain(*pictures.values())), where)


def _content_id(prompt: str, metadata: Mapping[str, Any]) -> str:
    content = json.dumps([prompt, metadata], sort_keys=True, ensure_ascii=False, default=str)
    return "p" + hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:12]


def checked(prompts: list[Prompt], where: str) -> list[Prompt]:
    """The same prompts. Raises UserError if there are none or two share an id."""
    if not prompts:
        raise UserError(f"{where}: there are no prompts")
    seen: dict[str, Prompt] = {}
    for prompt in prompts:
        if prompt.id in seen:
            raise UserError(
                f"{where}: {name_of(seen[prompt.id])} and {name_of(prompt)} have the same id; remove one or give them "
                f"different ids"
            )
        seen[prompt.id] = prompt
    return prompts


def name_of(prompt: Prompt) -> str:
    """A prompt in messages: its id, text and source."""
    return f"prompt {prompt.id!r} ({prompt.text!r}" + (f", {prompt.source})" if prompt.source else ")")


def load_prompts(component: Component, key: str) -> list[Prompt]:
    """The prompts of ``data.train`` or ``data.eval``; ``key`` names it in messages.

    Raises UserError if there are none, two share an id, or one has no text.
    """
    try:
        found = list(registry.resolve("prompts", component.use)(**component.options))
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    return checked(found, key)
