"""Instructions to edit with their pictures, one split at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np

from rl.data.pictures import Picture
from rl.data.shapes.edits.contents import EDIT_SPLITS, EDIT_TAGS, FINE_EDIT_TAGS, PROBE_TAGS, edit_contents
from rl.data.shapes.edits.example import EditExample
from rl.data.shapes.edits.make import make_edit
from rl.types import Prompt

_ALL_TAGS = (*EDIT_TAGS, *PROBE_TAGS, *FINE_EDIT_TAGS)
_PICTURES_SEED = 23
PHRASINGS = 12
"""A multiple of the number of ways to say each."""


def edit_examples(tag: str, splits: Sequence[str], number: int, seed: int = 0) -> Iterator[EditExample]:
    """``number`` edits of one operation, spread over contents first; each has a picture of its own.

    Pictures of different splits come from different random numbers. Raises: UserError on an unknown split or tag.
    """
    found = [(content, split) for split in splits for content in edit_contents(tag, split)]
    order = np.random.default_rng([seed, _PICTURES_SEED, _ALL_TAGS.index(tag)])
    shifts = order.integers(PHRASINGS, size=len(found))
    rounds = ((index, turn) for turn in count() for index in order.permutation(len(found)))
    for place, (index, turn) in enumerate(islice(rounds, number)):
        content, split = found[index]
        rng = np.random.default_rng([seed, _PICTURES_SEED, _ALL_TAGS.index(tag), EDIT_SPLITS.index(split), place])
        yield make_edit(content, split, rng, int(shifts[index]) + turn)


def edit_prompts(tag: str, splits: Sequence[str], number: int, seed: int = 0) -> list[Prompt]:
    """The same as prompts: ``pictures`` holds the one to be changed."""
    name = "+".join(splits)
    return [
        Prompt(f"{name}-{tag}-{place:04d}", one.instruction, one.metadata(), (Picture(one.before),))
        for place, one in enumerate(edit_examples(tag, splits, number, seed))
    ]
