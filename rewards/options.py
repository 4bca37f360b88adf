"""``--option key=value`` on the command lines of this package, read as in a run's YAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl.types import UserError
from rl.yaml12 import parse_value


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """``["grading=strict", "side=128"]`` -> ``{"grading": "strict", "side": 128}``; raises ``UserError``."""
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--option {text!r} is not of the form key=value, for example --option grading=strict")
        if key in options:
            raise UserError(f"--option {key} is given twice")
        try:
            options[key] = parse_value(value)
        except ValueError as error:
            raise UserError(f"--option {key}: {value!r} can't be read: {error}") from error
    return options
