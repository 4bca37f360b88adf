"""Tokens come out of environment variables: never on a command line, in a YAML or in an error message."""

from __future__ import annotations

import os

from rl.types import UserError


def token_in(variable: str, where: str) -> str:
    """The token in the environment variable that ``where`` names; white space around it is dropped.

    Raises ``UserError`` if it is not set, or is nothing that a header can carry: an error about the header would show
    it.
    """
    token = os.environ.get(variable, "").strip()
    if not token:
        raise UserError(f"{where}: the environment variable {variable} is not set, or empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{where}: the token in {variable} may hold ASCII letters, digits and signs only, no spaces")
    return token
