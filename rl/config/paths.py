"""Paths in a configuration: one rule for every key and every option.

A path is relative to the current folder. ``~``, ``~name``, ``$NAME`` and ``${NAME}`` stand for what a shell puts in
their place, so that a folder called ``~`` is never made; what has no value is an error.
"""

from __future__ import annotations

import os
import re

from pydantic_core import PydanticCustomError

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_PATH_LIKE = re.compile(r"~[\w.-]*(/|$)|\$(\w+|\{\w+\})(/|$)|\.{0,2}/|(?!\S*://)\S+/\S*$")
PATH_ERROR = "path"
"""The type of the validation error that is raised here."""


def expanded(path: str) -> str:
    """The path with ``~`` and variables replaced. Raises a validation error if one of them has no value."""
    if not path.strip() or "\0" in path:
        raise _wrong(path, "is no path; name a file or folder")
    text = _VARIABLE.sub(lambda found: _value(path, found[1] or found[2]), path)
    if not path.startswith("~"):
        return text
    full = os.path.expanduser(text)
    if full.startswith("~"):
        user = text.partition("/")[0]
        raise _wrong(path, f"{user!r} is no home folder here; write the folder out, or ./{user} for one of that name")
    return full


def expanded_options(options: dict[str, object]) -> dict[str, object]:
    """The same options, with those that read like paths expanded, at any depth: ``~/p.jsonl``, ``/data/$USER/p.txt``.

    Which options are paths only the component knows, and a text that is none hardly begins with ``~`` or ``/``.
    """
    return {name: _expanded_inside(value) for name, value in options.items()}


def _expanded_inside(value: object) -> object:
    if isinstance(value, dict):
        return {key: _expanded_inside(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded_inside(inner) for inner in value]
    return expanded(value) if isinstance(value, str) and _PATH_LIKE.match(value) else value


def _value(path: str, name: str) -> str:
    if name not in os.environ:
        raise _wrong(path, f"the environment variable {name} is not set; set it, or write the path out")
    return os.environ[name]


def _wrong(path: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError(PATH_ERROR, "{path}: {reason}", {"path": repr(path), "reason": reason})
