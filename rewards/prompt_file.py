"""Prompts for rewards that run without any training: the JSON lines that ``rl.data`` reads, with the same ids."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rl.types import Prompt, UserError


def read_prompts(path: Path) -> dict[str, Prompt]:
    """Prompts by id, in the file's order: ``{"id": "p17", "prompt": "two red circles", "tag": "counting"}`` per line.

    Every key but ``prompt`` and ``id`` is metadata. Without an id, a prompt is named by the hash of its content.
    Raises ``UserError`` on a missing or empty file, a line that is no prompt (with its number), an id used twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the prompt file {path} can't be read: {error}") from error
    found: dict[str, Prompt] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            prompt = _prompt(line, f"{path}:{number}")
            if prompt.id in found:
                first = found[prompt.id].metadata["source"]
                raise UserError(f"{path}:{number}: the id {prompt.id!r} is already that of {first}; change one of them")
            found[prompt.id] = prompt
    if not found:
        raise UserError(f"the prompt file {path} is empty; write one prompt per line")
    return found


def _prompt(line: str, where: str) -> Prompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: this line is not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise UserError(f'{where}: this line must be a JSON object such as {{"prompt": "two red circles"}}')
    text = row.pop("prompt", None)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'{where}: this line has no "prompt" (a text that is not blank)')
    identity = row.pop("id", None)
    if identity is None:
        identity = _content_id(text, row)
    if type(identity) not in (str, int) or identity == "":
        raise UserError(f'{where}: "id" must be text or a whole number, got {identity!r}')
    return Prompt(str(identity), text, {"source": where, **row})


def _content_id(text: str, metadata: dict[str, Any]) -> str:
    content = json.dumps([text, metadata], sort_keys=True, ensure_ascii=False, default=str)
    return "p" + hashlib.sha256(content.encode()).hexdigest()[:12]
