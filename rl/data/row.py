"""One row of a file or table as a prompt: what its keys mean, and what is no prompt at all."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeGuard

from rl.data.pictures import Picture
from rl.registry import did_you_mean
from rl.types import Prompt, UserError

NESTED: Final = "metadata"
"""A mapping under this key is read as if its keys stood beside it."""
_TASK = "tag"
_ALL_TASKS = "overall"  # what tables call the mean of all of them
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
"""Blank characters that Unicode counts among letters, marks and symbols."""


def flattened(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row with the keys of its ``metadata`` mapping beside its own.

    Raises UserError if a key has another value inside than outside.
    """
    nested = row.get(NESTED)
    if not isinstance(nested, Mapping):
        return dict(row)
    rest = {key: value for key, value in row.items() if key != NESTED}
    for key, value in nested.items():
        if key in rest and rest[key] != value:
            raise UserError(
                f'{where}: {key!r} stands in this line and, with another value, in its "{NESTED}"; remove one'
            )
    return {**rest, **nested}


def to_prompt(row: Mapping[str, Any], where: str, pictures: Mapping[str, Sequence[Picture]] = {}) -> Prompt:
    """A flattened row as a prompt; ``where`` is its source. Raises UserError if it is none.

    ``pictures``: what it holds under a key, which then is no metadata.
    """
    text = _text(row, where)
    rest = {key: value for key, value in row.items() if key not in ("prompt", "id")}
    content = json.dumps([text, rest], sort_keys=True, ensure_ascii=False, default=str)
    identity = _content_id(content, where) if row.get("id") is None else row["id"]
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise UserError(f'{where}: "id" must be text or a whole number, got {identity!r}')
    metadata = {key: value for key, value in rest.items() if key not in pictures}
    if _TASK in metadata:
        metadata[_TASK] = _task(metadata[_TASK], where)
    return Prompt(str(identity), text, metadata, tuple(chain(*pictures.values())), where)


def _text(row: Mapping[str, Any], where: str) -> str:
    text = row.get("prompt")
    if "prompt" not in row:
        near = did_you_mean("prompt", row) or (f" (its keys: {', '.join(map(str, row))})" if row else "")
        raise UserError(f'{where}: this line has no "prompt" (non-empty text){near}')
    if _is_chat(text):
        raise UserError(
            f'{where}: "prompt" is a chat of {len(text)} message{"s" * (len(text) != 1)}; write its words as one text, '
            f'such as "prompt": {_words(text)!r}'
        )
    if not isinstance(text, str):
        raise UserError(f'{where}: "prompt" must be text, got {"null" if text is None else repr(text)}')
    if "\0" in text:
        raise UserError(f'{where}: "prompt" holds a NUL character, which is no text; remove it')
    if not text.strip():
        raise UserError(f'{where}: this line has no "prompt" (non-empty text)')
    if not any(map(_is_seen, text)):
        raise UserError(f'{where}: "prompt" holds nothing that can be seen, only {text[:8]!a}; write a text')
    return text


def _is_seen(character: str) -> bool:
    """Not white space, a control or format character, or a variation selector; half a character is told elsewhere."""
    if character in _UNSEEN or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return False
    return unicodedata.category(character) not in ("Zs", "Zl", "Zp", "Cc", "Cf", "Cn")


def _is_chat(value: object) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and "role" in one for one in value)


def _words(chat: Sequence[Mapping[str, Any]]) -> str:
    content = chat[-1].get("content")
    return content if isinstance(content, str) and content else "two red circles"


def _content_id(content: str, where: str) -> str:
    try:
        return "p" + hashlib.sha256(content.encode()).hexdigest()[:12]
    except UnicodeEncodeError as error:
        wrong = ascii(content[error.start])[1:-1]
        raise UserError(
            f"{where}: this line holds {wrong}, half of a character that was cut in two; write the whole character, or "
            f"remove it"
        ) from None


def _task(tag: object, where: str) -> str | None:
    """The name of a prompt's task: text, or a number or truth value as its text; ``None`` if it says nothing."""
    value = tag[0] if isinstance(tag, list) and len(tag) == 1 else tag
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if value == _ALL_TASKS:
        raise UserError(f'{where}: "{_TASK}" is {value!r}, which names the mean of all tasks; write another name')
    if isinstance(value, str):
        return value
    what = f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
    raise UserError(
        f'{where}: "{_TASK}" is {what} ({value!r}), and names the one task that a prompt counts for; write one text, '
        f"and put the rest under another key"
    )
