"""Prompt files: JSON lines or plain text, read the same by a run and by rewards that are used on their own.

One prompt per line: ``{"prompt": "two red circles", "tag": "counting", "include": [...]}``, optionally an ``"id"``;
every other key becomes metadata for the rewards, so GenEval's ``evaluation_metadata.jsonl`` works as it is. Without
an id, a prompt is named by the hash of its content, which survives reordering of the file. Prompts carry
``metadata["source"] = "file:line"`` for messages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rl import registry
from rl.config.schema import Component
from rl.registry import did_you_mean
from rl.types import Prompt, UserError


def jsonl(*, path: str) -> list[Prompt]:
    """One JSON object per line. Raises UserError on a missing or empty file and on any bad line, with its number."""
    found = []
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: this line is not valid JSON ({error.msg}, column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
            raise UserError(f"{where}: this line is not valid JSON ({error})") from None
        found.append(to_prompt(row, where))
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


def to_prompt(row: Any, where: str) -> Prompt:
    """One row as a prompt; ``where`` is its source. Raises UserError if it is none."""
    if not isinstance(row, dict):
        raise UserError(f'{where}: this line must be a JSON object such as {{"prompt": "two red circles"}}')
    if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        near = did_you_mean("prompt", row) if "prompt" not in row else ""
        raise UserError(f'{where}: this line has no "prompt" (non-empty text){near}')
    rest: dict[str, Any] = {key: value for key, value in row.items() if key not in ("prompt", "id")}
    identity = row.get("id", _content_id(row["prompt"], rest))
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise UserError(f'{where}: "id" must be text or a whole number, got {identity!r}')
    return Prompt(str(identity), row["prompt"], {"source": where, **rest})


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
    source = prompt.metadata.get("source")
    return f"prompt {prompt.id!r} ({prompt.text!r}" + (f", {source})" if source else ")")


def hf(
    *, name: str, split: str = "train", subset: str | None = None, column: str = "prompt", limit: int | None = None
) -> list[Prompt]:
    """A Hugging Face dataset, or a local folder in a form that ``datasets.load_dataset`` reads.

    ``column`` holds the prompt, ``id`` (if there is such a column) the id, the other columns are metadata; empty
    cells are left out. ``limit`` keeps the first rows. Raises UserError if it can't be loaded or lacks the column.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError("prompts from Hugging Face need the package datasets: pip install datasets") from error
    try:
        rows = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError) as error:  # missing, not reachable, unknown split or subset
        raise UserError(f"the dataset {name!r} (split {split!r}) can't be loaded: {error}") from error
    if column not in rows.column_names:
        near = registry.did_you_mean(column, rows.column_names)
        raise UserError(f"dataset {name!r} has no column {column!r}{near} (it has {', '.join(rows.column_names)})")
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    found = []
    for number, row in enumerate(rows):
        rest = {key: value for key, value in row.items() if value is not None and key not in (column, "prompt")}
        found.append(to_prompt({**rest, "prompt": row[column]}, f"{name}[{split}]:{number}"))
    return checked(found, name)


def load_prompts(component: Component, key: str) -> list[Prompt]:
    """The prompts of ``data.train`` or ``data.eval``; ``key`` names it in messages.

    Raises UserError if there are none, two share an id, or one has no text.
    """
    try:
        found = list(registry.resolve("prompts", component.use)(**component.options))
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    return checked(found, key)
