"""``--option key=value`` on the command lines of this package, read as in a run's YAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl.types import UserError
from rl.yaml12 import parse_value


def parse_options(given: Sequence[str], flag: str = "--option") -> dict[str, Any]:
    """``["grading=strict", "side=128"]`` -> ``{"grading": "strict", "side": 128}``; raises ``UserError``."""
    options: dict[str, Any] = {}
    for text in given:
        key, value = parse_option(text, flag)
        if key in options:
            raise UserError(f"{flag} {key} is given twice")
        options[key] = value
    return options


def parse_option(text: str, flag: str = "--option") -> tuple[str, Any]:
    """``"side=128"`` -> ``("side", 128)``; raises ``UserError``."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UserError(f"{flag} {text!r} is not of the form key=value, for example {flag} batch_size=16")
    try:
        return key, parse_value(value)
    except ValueError as error:
        raise UserError(f"{flag} {key}: {value!r} can't be read: {error}") from error
