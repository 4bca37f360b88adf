"""Prompt lists of the shapes world, one split at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, islice

import numpy as np

from rl.data.shapes.captions import TEMPLATES
from rl.data.shapes.edits.contents import EDIT_TAGS, FINE_EDIT_TAGS, PROBE_TAGS
from rl.data.shapes.edits.prompts import edit_prompts
from rl.data.shapes.questions.contents import QUESTION_TAGS
from rl.data.shapes.questions.prompts import question_prompts
from rl.data.shapes.world import GENEVAL_TAGS, TAGS, contents
from rl.types import Prompt, UserError


def prompts(
    split: str | Sequence[str] = "rl",
    per_task: int | Mapping[str, int] = 96,
    tags: Sequence[str] = GENEVAL_TAGS,
    seed: int = 0,
) -> list[Prompt]:
    """``per_task`` prompts of each task, spread over contents first and paraphrases second.

    ``split`` is one of train, rl, heldout (of edits also cross), or several of them; ``per_task`` a number, or one for
    each of ``tags``.
    A task with fewer distinct captions than that repeats them under new ids, which means new sampling seeds. Tags that
    begin with ``edit_`` or ``fine_`` are instructions to change a picture, each with one of its own (``edits``); with
    ``ask_``, questions about one (``questions``).
    Raises: UserError on an unknown split or task.
    """
    splits = [split] if isinstance(split, str) else list(split)
    name = "+".join(splits)
    found: list[Prompt] = []
    for tag in tags:
        if tag in (*EDIT_TAGS, *PROBE_TAGS, *FINE_EDIT_TAGS):
            found += edit_prompts(tag, splits, _count(per_task, tag), seed)
            continue
        if tag in QUESTION_TAGS:
            found += question_prompts(tag, splits, _count(per_task, tag), seed)
            continue
        parts = [content for one in splits for content in contents(tag, one)]
        rng = np.random.default_rng([seed, TAGS.index(tag)])
        shifts = rng.integers(len(TEMPLATES[tag]), size=len(parts))
        rounds = (
            (content, int(shift) + turn) for turn in count() for content, shift in zip(parts, shifts, strict=True)
        )
        for number, (content, template) in enumerate(islice(rounds, _count(per_task, tag))):
            found.append(Prompt(f"{name}-{tag}-{number:04d}", content.caption(template), content.metadata()))
    return found


def _count(per_task: int | Mapping[str, int], tag: str) -> int:
    if isinstance(per_task, int):
        return per_task
    if tag not in per_task:
        raise UserError(f"shapes prompts: per_task names no number for '{tag}'; add it, or leave the task out of tags.")
    return per_task[tag]
