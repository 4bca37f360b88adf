"""Prompts of one source: their names in messages, repeated ones, and what a user is told about them."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

from rl.types import Prompt, UserError

Repeats = Literal["once", "keep"]
_SHOWN = 80  # characters of a prompt in a message
_KEYS_SHOWN = 12


class PromptList(list[Prompt]):
    """Prompts with different ids; ``notes`` are sentences about what was done to make them so. ``digest``: of what they
    are the first of, if there are more."""

    def __init__(self, prompts: Iterable[Prompt], notes: Sequence[str] = (), digest: str = "") -> None:
        super().__init__(prompts)
        self.digest = digest
        self.notes = tuple(note for note in notes if note)


def gathered(prompts: Iterable[Prompt], where: str, repeats: Repeats = "once") -> PromptList:
    """Prompts that are the same in everything are taken once, or kept under ids of their own (``x``, ``x.2``, ...).

    Raises UserError if there are none, one is no ``Prompt``, or two that differ share an id, counting all of these.
    """
    if repeats not in ("once", "keep"):
        raise UserError(f"{where}: repeats is {repeats!r}; it must be 'once' or 'keep'")
    first: dict[str, Prompt] = {}
    again: Counter[str] = Counter()
    kept: list[Prompt] = []
    clashes: list[Prompt] = []
    for prompt in prompts:
        if not isinstance(prompt, Prompt):
            raise UserError(f"{where}: a source of prompts must give rl.types.Prompt, not {type(prompt).__name__}")
        if prompt.id not in first:
            first[prompt.id] = prompt
            kept.append(prompt)
        elif not _same(first[prompt.id], prompt):
            clashes.append(prompt)
        else:
            again[prompt.id] += 1
            if repeats == "keep":
                kept.append(replace(prompt, id=f"{prompt.id}.{again[prompt.id] + 1}"))
    if not first:
        raise UserError(f"{where}: there are no prompts")
    if clashes:
        more = f"; {len(clashes) - 1} more have an id that is taken" if len(clashes) > 1 else ""
        raise UserError(
            f"{where}: {name_of(first[clashes[0].id])} and {name_of(clashes[0])} have the same id{more}; remove one or "
            f"give them different ids"
        )
    return PromptList(kept, [_repeats_note(again.total(), len(first), repeats), _alike_note(kept)])


def name_of(prompt: Prompt) -> str:
    """A prompt in messages: its id, text and source."""
    text = prompt.text if len(prompt.text) <= _SHOWN else prompt.text[: _SHOWN - 3] + "..."
    return f"prompt {prompt.id!r} ({text!r}" + (f", {prompt.source})" if prompt.source else ")")


def named_and_more(prompts: Sequence[Prompt]) -> str:
    """``prompt 'a' ('two circles', p.jsonl:3) and 4 more have``, or ``... has``."""
    return name_of(prompts[0]) + (f" and {len(prompts) - 1} more have" if len(prompts) > 1 else " has")


def keys_of(prompts: Sequence[Prompt]) -> str:
    """``'include' (40 of 60), 'tag' (60 of 60)``: the metadata that these prompts hold, for messages."""
    counts = Counter(key for prompt in prompts for key, value in prompt.metadata.items() if value is not None)
    shown = [f"{key!r} ({count} of {len(prompts)})" for key, count in islice(counts.items(), _KEYS_SHOWN)]
    more = [f"{len(counts) - _KEYS_SHOWN} more"] if len(counts) > _KEYS_SHOWN else []
    return ", ".join(shown + more) or "none"


def overlap(train: Iterable[Prompt], held_out: Iterable[Prompt]) -> int:
    """How many held-out prompts are training prompts too, whatever their white space and Unicode form: the same words
    about the same pictures."""
    known = {(_folded(prompt.text), prompt.pictures) for prompt in train}
    return sum((_folded(prompt.text), prompt.pictures) in known for prompt in held_out)


def _same(one: Prompt, other: Prompt) -> bool:
    return one.pictures == other.pictures and _content(one) == _content(other)


def _content(prompt: Prompt) -> str:
    return json.dumps([prompt.text, dict(prompt.metadata)], sort_keys=True, default=str)


def _repeats_note(count: int, different: int, repeats: Repeats) -> str:
    if not count:
        return ""
    done = "taken once (repeats: keep takes all)" if repeats == "once" else "kept under ids of their own"
    return f"{count:,} of {count + different:,} prompts repeat an earlier one, and are {done}"


def _alike_note(prompts: Sequence[Prompt]) -> str:
    texts = {prompt.text for prompt in prompts}
    alike = len(texts) - len({_folded(text) for text in texts})
    if not alike:
        return ""
    what = "1 prompt differs" if alike == 1 else f"{alike:,} prompts differ"
    return f"{what} from another in white space or Unicode form only; the policy reads them as they are"


def _folded(text: str) -> str:
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
