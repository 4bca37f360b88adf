"""Prompts of several sources in one list.

``use: mixture``, ``options: {sources: [{use: geneval}, {use: jsonl, options: {path: edits.jsonl}}]}``. How often each
task comes is said by ``data.shares``.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from rl.config.declared import wrong_options
from rl.config.section import Component
from rl.data.prompt_list import PromptList, gathered
from rl.data.prompts import load_prompts
from rl.types import UserError


def mixture(*, sources: list[Any]) -> PromptList:
    """Of all sources, one after another. Raises UserError naming the source that is wrong, or two prompts that differ
    and have the same id."""
    if not sources:
        raise UserError("options.sources is empty; name at least one source of prompts, such as {use: shapes}")
    found = [_loaded(source, f"options.sources[{place}]") for place, source in enumerate(sources)]
    together = gathered([prompt for one in found for prompt in one], "options.sources")
    return PromptList(together, [*(note for one in found for note in one.notes), *together.notes])


def _loaded(source: object, where: str) -> PromptList:
    component = _component(source, where)
    try:
        wrong = list(wrong_options("prompts", component.use, component.options))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    for option, message in wrong:
        raise UserError(f"{where}.options.{option}: {message}")
    return load_prompts(component, where)


def _component(source: object, where: str) -> Component:
    """``geneval`` is short for ``{use: geneval}``."""
    try:
        return Component.model_validate({"use": source} if isinstance(source, str) else source)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{where}{'.' if key else ''}{key}: {first['msg']}; a source is {{use: NAME, options: {{...}}}}"
        ) from error
