"""Random training scenes with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.shapes.captions import TEMPLATES
from rl.data.shapes.looks import FIGURES, GROUNDS
from rl.data.shapes.sprites import CLASSES, every_cell
from rl.data.shapes.world import CELLS, TAGS, Content, class_of, contents, draw_scene

# harder tasks are seen more often
SHARES = {
    "single_object": 0.014,
    "two_object": 0.03,
    "counting": 0.08,
    "colors": 0.08,
    "position": 0.126,
    "color_attr": 0.28,
    "ocr": 0.21,
    "ground": 0.04,
    "look": 0.06,
    "look_attr": 0.08,
    "details": 0.0,  # it is in look_attr
}
# which of a content's words are details
_DETAIL_WORDS = {"ground": (2,), "look": (0,), "look_attr": (0, 2, 4), "details": (0, 2, 4)}


@dataclass(frozen=True)
class Scene:
    content: Content
    caption: str
    cells_T: NDArray[np.int64]


def random_scene(rng: Generator, tag: str | None = None, splits: Sequence[str] = ("train",)) -> Scene:
    """A scene of one task, or of a task drawn by its share."""
    tag = tag or TAGS[rng.choice(len(TAGS), p=[SHARES[name] for name in TAGS])]
    choices = [content for split in splits for content in contents(tag, split)]
    content = choices[rng.integers(len(choices))]
    return Scene(content, content.caption(int(rng.integers(len(TEMPLATES[tag])))), draw_scene(content, rng))


def with_details_of(other: Content, content: Content) -> Content:
    """``content`` with the details of ``other``, a content of the same task."""
    words = list(content.words)
    for place in _DETAIL_WORDS[content.tag]:
        words[place] = other.words[place]
    return Content(content.tag, tuple(words))


def dense_cells(rng: Generator, batch: int) -> NDArray[np.int64]:
    """(B, 16) cells drawn at random, half of them blank: more ink a picture than any caption asks for."""
    cells = rng.integers(len(every_cell()), size=(batch, CELLS))
    return cells * (rng.random((batch, CELLS)) < 0.5)


def showing(content: Content, cells_T: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
    """``cells_T`` with about half of the ink as objects that the caption wants drawn in a way of their own, if any."""
    named = [CLASSES.index(name) for name, figure in content.figures().items() if figure]
    own = np.flatnonzero(np.isin(class_of(np.arange(len(every_cell()))), named))
    if not len(own):
        return cells_T
    return np.where((cells_T > 0) & (rng.random(CELLS) < 0.5), rng.choice(own, CELLS), cells_T)


def dense_looks(rng: Generator, batch: int) -> NDArray[np.int64]:
    """(B, 16) looks drawn at random: one ground a picture, every second one plain; half of the cells as they are."""
    grounds = rng.integers(1, len(GROUNDS), size=(batch, 1)) * (rng.random((batch, 1)) < 0.5)
    figures = rng.integers(len(FIGURES), size=(batch, CELLS)) * (rng.random((batch, CELLS)) < 0.5)
    return grounds * len(FIGURES) + figures
