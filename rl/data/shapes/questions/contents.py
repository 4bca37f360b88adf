"""What can be asked, split once: contents of ``heldout`` are in no other split. Of yes and no, and of what else a blind
guess could profit from, all answers to a question are in the same split, each as often as any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np

from rl.data.shapes.looks import GROUNDS, SHADED_COLORS
from rl.data.shapes.sprites import CLASSES, COLORS
from rl.data.shapes.world import RELATIONS, SPLITS, contents
from rl.types import UserError

COARSE_TAGS = ("ask_color", "ask_shape", "ask_count", "ask_exists", "ask_position", "ask_size", "ask_read")
"""What the image tokens of a picture tell."""
FINE_TAGS = ("ask_shade", "ask_outline", "ask_ground")
"""What they do not: details below the codebook (``looks``)."""
QUESTION_TAGS = (*COARSE_TAGS, *FINE_TAGS)
DESCRIBE = "describe"
"""All that stands in a picture, to learn words from (as captions are in the first stage of LLaVA, arXiv 2304.08485):
its answer is its picture's, so nothing is held out of it, and it is in no list of prompts."""
NUMBERS = ("zero", "one", "two", "three", "four", "five")
ANY = ""
"""A colour that the question leaves open."""
_SHADES = {"light": "pale", "dark": "dark"}
_SHARES = (0.6, 0.2)
_SPLIT_SEED = 13


@dataclass(frozen=True)
class QuestionContent:
    """What is asked, and the right answer. ``QuestionContent("ask_color", ("circle",), "red")``."""

    tag: str
    words: tuple[str, ...]
    answer: str

    @property
    def shade(self) -> str:
        """Of ``looks.SHADES``, that the answer names."""
        return _SHADES[self.answer]


@cache
def question_contents(tag: str, split: str) -> tuple[QuestionContent, ...]:
    """All contents of one kind of question in one split. Raises: UserError on an unknown one."""
    if tag not in (*QUESTION_TAGS, DESCRIBE):
        raise UserError(f"shapes world: unknown question '{tag}'; choose among {', '.join(QUESTION_TAGS)}.")
    if split not in SPLITS:
        raise UserError(f"shapes world: unknown split '{split}'; choose among {', '.join(SPLITS)}.")
    if tag == DESCRIBE:
        return (QuestionContent(DESCRIBE, (), ""),)
    if tag == "ask_read":
        return tuple(QuestionContent(tag, (), word) for (word,) in (one.words for one in contents("ocr", split)))
    bundles = _bundles(tag)
    order = np.random.default_rng([_SPLIT_SEED, QUESTION_TAGS.index(tag)]).permutation(len(bundles))
    edges = [round(len(bundles) * share) for share in np.cumsum(_SHARES)]
    parts = dict(zip(SPLITS, np.split(order, edges), strict=True))
    return tuple(one for index in parts[split] for one in bundles[index])


def _bundles(tag: str) -> list[list[QuestionContent]]:
    """Contents of which all or none are in a split."""

    def bundle(words: tuple[str, ...], answers: Sequence[str]) -> list[QuestionContent]:
        return [QuestionContent(tag, words, answer) for answer in answers]

    match tag:
        case "ask_color":
            return [bundle((name,), (color,)) for name, color in product(CLASSES, COLORS)]
        case "ask_shape":
            return [bundle((color,), (name,)) for name, color in product(CLASSES, COLORS)]
        case "ask_count":
            return [bundle((color, name), NUMBERS) for color, name in product((ANY, *COLORS), CLASSES)]
        case "ask_exists":
            return [bundle((color, name), ("yes", "no")) for color, name in product(COLORS, CLASSES)]
        case "ask_position":
            return [bundle(pair, RELATIONS) for pair in permutations(CLASSES, 2)]
        case "ask_size":
            return [bundle(pair, pair) for pair in permutations(CLASSES, 2)]
        case "ask_shade":
            return [bundle((name, color), ("light", "dark")) for name, color in product(CLASSES, SHADED_COLORS)]
        case "ask_outline":
            return [bundle((name, color), ("yes", "no")) for name, color in product(CLASSES, SHADED_COLORS)]
        case _:
            return [bundle((name, color), GROUNDS[1:]) for name, color in product(CLASSES, COLORS)]
