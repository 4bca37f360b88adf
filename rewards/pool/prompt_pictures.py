"""The pictures of prompts are read in the parent: a worker may be on another machine, or have no PIL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rl.types import Prompt, Sample, UserError


def in_memory(samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], dict[int, str]]:
    """The samples with the pictures of their prompts as arrays, read once per prompt; sample -> why one can't be read.

    A sample of which a picture can't be read stays as it is.
    """
    read: dict[int, Prompt | str] = {}  # by ``id``: a group shares its prompt
    found, unreadable = list(samples), dict[int, str]()
    for index, sample in enumerate(samples):
        if not sample.prompt.pictures:
            continue
        if id(sample.prompt) not in read:
            read[id(sample.prompt)] = _in_memory(sample.prompt)
        prompt = read[id(sample.prompt)]
        if isinstance(prompt, str):
            unreadable[index] = prompt
        else:
            found[index] = replace(sample, prompt=prompt)
    return tuple(found), unreadable


def _in_memory(prompt: Prompt) -> Prompt | str:
    try:
        return replace(prompt, pictures=tuple(picture.in_memory() for picture in prompt.pictures))
    except UserError as error:
        return f"prompt {prompt.id!r}: {error}"
