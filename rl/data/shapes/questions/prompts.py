"""Questions with their pictures, one split at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np

from rl.data.pictures import Picture
from rl.data.shapes.questions.contents import QUESTION_TAGS, question_contents
from rl.data.shapes.questions.make import ShapesQuestion, make_question
from rl.data.shapes.world import SPLITS
from rl.types import Prompt

_PICTURES_SEED = 31


def questions(tag: str, splits: Sequence[str], number: int, seed: int = 0) -> Iterator[ShapesQuestion]:
    """``number`` questions of one kind, spread over contents first; each has a picture of its own.

    Pictures of different splits come from different random numbers. Raises: UserError on an unknown split or tag.
    """
    found = [(content, split) for split in splits for content in question_contents(tag, split)]
    order = np.random.default_rng([seed, _PICTURES_SEED, QUESTION_TAGS.index(tag)])
    shifts = order.integers(2, size=len(found))
    rounds = ((index, turn) for turn in count() for index in order.permutation(len(found)))
    for place, (index, turn) in enumerate(islice(rounds, number)):
        content, split = found[index]
        rng = np.random.default_rng([seed, _PICTURES_SEED, QUESTION_TAGS.index(tag), SPLITS.index(split), place])
        yield make_question(content, rng, int(shifts[index]) + turn)


def question_prompts(tag: str, splits: Sequence[str], number: int, seed: int = 0) -> list[Prompt]:
    """The same as prompts: ``pictures`` holds the one that is asked about."""
    name = "+".join(splits)
    return [
        Prompt(f"{name}-{tag}-{place:04d}", one.text, one.metadata(), (Picture(one.picture),))
        for place, one in enumerate(questions(tag, splits, number, seed))
    ]


def chance_levels(prompts: Sequence[Prompt]) -> dict[str, float]:
    """Kind of question -> the share that is right if each question gets the answer that is most often right to its
    words, whatever the picture shows."""
    said: dict[str, dict[str, Counter[str]]] = {}
    for prompt in prompts:
        by_text = said.setdefault(str(prompt.metadata["tag"]), {})
        by_text.setdefault(prompt.text, Counter())[str(prompt.metadata["answer"])] += 1
    return {
        tag: sum(max(answers.values()) for answers in texts.values()) / sum(sum(a.values()) for a in texts.values())
        for tag, texts in said.items()
    }
