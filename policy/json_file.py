"""The JSON files of a policy folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rl.types import UserError

JsonObject: TypeAlias = Mapping[str, Any]
"""What stands in such a file; nobody has checked its values."""


def read_json(file: Path) -> JsonObject:
    """Raises: UserError if it holds no JSON object."""
    try:
        content = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: line {error.lineno} is not JSON ({error.msg}); restore the file.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object; restore the file.")
    return content


def write_json(file: Path, content: Mapping[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
