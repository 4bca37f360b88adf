"""Contents and random numbers in, whole questions out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.shapes.edits.draft import Draft
from rl.data.shapes.edits.letters import write_letters
from rl.data.shapes.edits.things import scene_of
from rl.data.shapes.looks import FIGURES, GROUNDS, Look
from rl.data.shapes.questions.contents import ANY, DESCRIBE, FINE_TAGS, NUMBERS, QuestionContent
from rl.data.shapes.sprites import CLASSES
from rl.data.shapes.world import CELLS, pairs_in_relation, picture, plural

PHRASES: dict[str, tuple[str, ...]] = {
    "ask_color": ("what color is the {0}?", "which color is the {0}?"),
    "ask_shape": ("what shape is {0}?", "which shape is {0}?"),
    "ask_count": ("how many {counted} are there?", "how many {counted}?"),
    "ask_exists": ("is there a {0} {1}?", "is there a {0} {1} in the picture?"),
    "ask_position": ("where is the {0} from the {1}?",),
    "ask_size": ("which is bigger, the {0} or the {1}?",),
    "ask_read": ("what does the sign say?", "what is the word?"),
    "ask_shade": ("is the {0} light or dark?",),
    "ask_outline": ("is the {0} outlined?",),
    "ask_ground": ("what is the ground?", "which ground is there?"),
    DESCRIBE: ("describe the picture",),
}


@dataclass(frozen=True)
class ShapesQuestion:
    """``scene``: 16 cell indices; ``looks``: how each is drawn."""

    tag: str
    text: str
    scene: NDArray[np.int64]
    looks: NDArray[np.int64]
    answer: str

    @property
    def picture(self) -> NDArray[np.uint8]:
        """(64, 64, 3)."""
        return picture(self.scene, self.looks)

    def metadata(self) -> dict[str, Any]:
        """``{"tag": "ask_color", "task": "answer", "answer": "red"}``; a count is a number."""
        right = NUMBERS.index(self.answer) if self.tag == "ask_count" else self.answer
        return {"tag": self.tag, "task": "answer", "answer": right}


def make_question(content: QuestionContent, rng: Generator, choice: int = 0) -> ShapesQuestion:
    """One question of ``content`` about a picture of its own; ``choice``: which words it is asked in."""
    draft = Draft(rng)
    _PLANS[content.tag](draft, content)
    draft.fill()
    phrases = PHRASES[content.tag]
    text = phrases[choice % len(phrases)].format(*content.words, counted=_counted(content))
    answer = _described(draft) if content.tag == DESCRIBE else content.answer
    return ShapesQuestion(content.tag, text, scene_of(draft.things), _looks(draft, content), answer)


def _described(draft: Draft) -> str:
    """Row by row: ``"red circle and blue star"``."""
    things = (draft.things[place] for place in sorted(draft.things))
    return " and ".join(f"{thing.color} {thing.name}" for thing in things)


def _counted(content: QuestionContent) -> str:
    if content.tag != "ask_count":
        return ""
    color, name = content.words
    return f"{color} {plural(name)}".strip()


def _color(draft: Draft, content: QuestionContent) -> None:
    draft.single.add(content.words[0])
    draft.put(content.words[0], content.answer)


def _shape(draft: Draft, content: QuestionContent) -> None:
    draft.single.update((name, content.words[0]) for name in CLASSES)
    draft.put(content.answer, content.words[0])


def _count(draft: Draft, content: QuestionContent) -> None:
    color, name = content.words
    draft.single.add(name if color == ANY else (name, color))
    for _ in range(NUMBERS.index(content.answer)):
        draft.put(name, color or None)


def _exists(draft: Draft, content: QuestionContent) -> None:
    """The colour and the class stand in every picture, but only where it is "yes" in one thing."""
    color, name = content.words
    draft.single.add((name, color))
    draft.put(name, draft.color(but=[color]))
    others = [one for one in CLASSES if one != name]
    draft.put(others[draft.rng.integers(len(others))], color)
    draft.put(name, color if content.answer == "yes" else draft.color(but=[color]))


def _position(draft: Draft, content: QuestionContent) -> None:
    pairs = pairs_in_relation(content.answer)
    places = pairs[draft.rng.integers(len(pairs))]
    draft.single.update(content.words)
    for name, place in zip(content.words, places, strict=True):
        draft.put(name, place=place)


def _size(draft: Draft, content: QuestionContent) -> None:
    draft.single.update(content.words)
    for name in content.words:
        draft.put(name, size="large" if name == content.answer else "small")


def _read(draft: Draft, content: QuestionContent) -> None:
    write_letters(draft, content.answer)


def _anything(draft: Draft, content: QuestionContent) -> None:
    """What fills the picture."""


def _fine(draft: Draft, content: QuestionContent) -> None:
    name, color = content.words
    draft.single.add(name)
    draft.put(name, color)


_PLANS: dict[str, Callable[[Draft, QuestionContent], None]] = {
    "ask_color": _color,
    "ask_shape": _shape,
    "ask_count": _count,
    "ask_exists": _exists,
    "ask_position": _position,
    "ask_size": _size,
    "ask_read": _read,
    "ask_shade": _fine,
    "ask_outline": _fine,
    "ask_ground": _fine,
    DESCRIBE: _anything,
}


def _looks(draft: Draft, content: QuestionContent) -> NDArray[np.int64]:
    """Where details are asked for all things have some, at random but for the one that the question is about."""
    if content.tag not in FINE_TAGS:
        return np.zeros(CELLS, np.int64)
    ground = content.answer if content.tag == "ask_ground" else GROUNDS[draft.rng.integers(len(GROUNDS))]
    looks = np.full(CELLS, Look(ground).index)
    for place, thing in draft.things.items():
        look = Look.of(ground, FIGURES[draft.rng.integers(len(FIGURES))])
        asked = thing.name == content.words[0]
        if asked and content.tag == "ask_shade":
            look = Look(ground, content.shade, look.outlined)
        if asked and content.tag == "ask_outline":
            look = Look(ground, look.shade, content.answer == "yes")
        looks[place] = look.index
    return looks
