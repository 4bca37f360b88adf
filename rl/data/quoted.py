"""The quoted text of a prompt: what sets of text-rendering prompts want to see written in the picture.

``A shop door with a sign that says "OPEN", in warm light.`` -> ``OPEN``. Pairs of quotation marks count: straight and
typographic double ones, guillemets, corner brackets; single ones only where a prompt has no other, and only where they
can be no apostrophe (white space or a bracket before the first, none after it, the reverse at the second).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rl.data.prompt_list import named_and_more
from rl.types import Prompt, UserError

QUOTED_KEY = "text"
"""The metadata that a quoted text becomes by itself."""
AUTO = "auto"

_PAIRS = ('""', "“”", "„“”", "«»", "「」", "『』", "＂＂")  # an opening mark, and those that may close it
_DOUBLE_MARKS = frozenset("".join(_PAIRS))
_DOUBLE = re.compile("|".join(f"{pair[0]}([^{pair}]*)[{pair[1:]}]" for pair in _PAIRS))
_SINGLE = re.compile(r"(?<![^\s(\[{])(?:'(?=\S)(.*?)(?<=\S)'|‘(?=\S)(.*?)(?<=\S)’)(?!\w)")


def quoted_texts(prompt: str) -> list[str]:
    """All of them, in order. Raises ValueError if a quotation mark has no partner."""
    found = [_inside(match) for match in _DOUBLE.finditer(prompt)]
    if _DOUBLE_MARKS & set(_DOUBLE.sub("", prompt)):
        raise ValueError("a quotation mark without its partner")
    if not found:
        found = [_inside(match) for match in _SINGLE.finditer(prompt)]
    return [text for text in found if text]


def one_quoted_text(prompt: str) -> str:
    """The only one. Raises ValueError saying what there is instead."""
    found = quoted_texts(prompt)
    if not found:
        raise ValueError("no quoted text")
    if len(found) > 1:
        raise ValueError(f"{len(found)} quoted texts ({', '.join(map(repr, found))})")
    return found[0]


def has_one_quoted_text(prompt: str) -> bool:
    try:
        one_quoted_text(prompt)
    except ValueError:
        return False
    return True


def with_quoted_text(prompts: Sequence[Prompt], quoted: str | None, where: str) -> tuple[list[Prompt], str]:
    """The prompts with their quoted text as metadata, and a sentence if that was done unasked.

    ``quoted``: the key that it goes to, ``None`` for nowhere. ``auto``: to ``text``, if none of the prompts has a
    ``text`` and each has exactly one quoted text. A prompt that has metadata under the key already keeps it. Raises
    UserError counting the prompts that have no quoted text, or several.
    """
    if quoted is None:
        return list(prompts), ""
    if not isinstance(quoted, str) or not quoted:
        raise UserError(f"{where}: quoted is {quoted!r}; it must be the key that the quoted text goes to, or null")
    if quoted != AUTO:
        return _taken(prompts, quoted, where), ""
    if any(QUOTED_KEY in prompt.metadata or not has_one_quoted_text(prompt.text) for prompt in prompts):
        return list(prompts), ""
    note = f'each prompt has one quoted text, which becomes its "{QUOTED_KEY}" (quoted: null leaves it out)'
    return _taken(prompts, QUOTED_KEY, where), note


def _taken(prompts: Sequence[Prompt], key: str, where: str) -> list[Prompt]:
    found, wrong, reasons = [], [], []
    for prompt in prompts:
        try:
            own = {} if key in prompt.metadata else {key: one_quoted_text(prompt.text)}
        except ValueError as error:
            wrong.append(prompt)
            reasons.append(str(error))
            continue
        found.append(replace(prompt, metadata={**prompt.metadata, **own}))
    if wrong:
        raise UserError(
            f"{where}: quoted: {key} takes exactly one quoted text, and {named_and_more(wrong)} not that: the first "
            f'has {reasons[0]}; mend the lines, or give them a "{key}" of their own'
        )
    return found


def _inside(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).strip()
