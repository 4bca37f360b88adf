"""The lines of a text file and the JSON objects in them, as people's editors, spreadsheets and exports write them."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from rl.registry import did_you_mean
from rl.types import UserError

_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_OTHER_FILES = {
    b"PAR1": "a Parquet table",
    b"\x1f\x8b": "compressed (gzip)",
    b"PK\x03\x04": "a zip archive",
}
_TABLES = (".csv", ".tsv", ".parquet", ".arrow")


class NotJsonError(UserError):
    """A line that is no JSON object."""


def numbered_lines(path: str) -> list[tuple[int, str]]:
    """(line number, line without white space around it) of all lines that are not blank.

    A byte-order mark is no part of a line. Raises UserError if the file is missing, empty, or no UTF-8 text.
    """
    # Not splitlines(): a prompt may hold U+2028 and other characters that it takes for line ends.
    content = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    stripped = [(number, line.lstrip("\ufeff").strip()) for number, line in enumerate(content.split("\n"), 1)]
    found = [(number, line) for number, line in stripped if line]
    if not found:
        raise UserError(f"the prompt file {path!r} is empty; write one prompt per line")
    return found


def read_text(path: str) -> str:
    """The whole file, without its byte-order mark. Raises UserError if it is missing or no UTF-8 text."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        near = did_you_mean(Path(path).name, [p.name for p in Path(path).parent.glob("*")])
        raise UserError(f"there is no prompt file {path!r}{near}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"the prompt file {path!r} can't be read: {error}") from error
    for mark, name in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise UserError(f"the prompt file {path!r} is {name} text; save it as UTF-8")
    for start, name in _OTHER_FILES.items():
        if content.startswith(start):
            raise UserError(f"the prompt file {path!r} is {name}, not text{table_hint(path)}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: this line is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from None


def table_hint(path: str) -> str:
    """For a table, the source that reads it; nothing for other files."""
    if Path(path).suffix.lower() not in _TABLES:
        return ""
    return f"; a table is read by use: hf, options: {{name: {path}, column: the one that holds the prompts}}"


def json_object(line: str, where: str) -> dict[str, Any]:
    """The object that ``line`` is. Raises NotJsonError if it is none, UserError if an object in it has a key twice."""
    try:
        row = json.loads(line, object_pairs_hook=_without_double_keys)
    except _DoubleKeyError as error:
        raise UserError(
            f"{where}: this line holds the key {error.key!r} twice in one object; remove one of the two"
        ) from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{where}: this line is not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
        raise NotJsonError(f"{where}: this line is not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise NotJsonError(f'{where}: this line must be a JSON object such as {{"prompt": "two red circles"}}')
    return row


def other_than_json_lines(path: str) -> str:
    """What a file that could not be read as JSON lines seems to be, with the way on; nothing if there is no telling."""
    if hint := table_hint(path):
        return hint
    content = read_text(path).strip()
    if content.startswith(("{'", '{"')):
        return "; JSON writes texts in double quotes" if content.startswith("{'") else ""
    if not content.startswith(("{", "[")):
        return "; plain text, one prompt per line, is read by use: text"
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    return f"; the file is one JSON {'array' if isinstance(whole, list) else 'object'}: write one object per line"


class _DoubleKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubleKeyError(next(key for key in keys if keys.count(key) > 1))
    return found
