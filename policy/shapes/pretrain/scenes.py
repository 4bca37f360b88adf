"""Random training scenes with their captions, from the train split only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.shapes.captions import TEMPLATES
from rl.data.shapes.sprites import every_cell
from rl.data.shapes.world import CELLS, TAGS, contents, draw_scene

# harder tasks are seen more often
SHARES = {
    "single_object": 0.02,
    "two_object": 0.04,
    "counting": 0.11,
    "colors": 0.11,
    "position": 0.17,
    "color_attr": 0.37,
    "ocr": 0.18,
}


@dataclass(frozen=True)
class Scene:
    tag: str
    caption: str
    cells_T: NDArray[np.int64]


def random_scene(rng: Generator, tag: str | None = None) -> Scene:
    """A scene of one task, or of a task drawn by its share."""
    tag = tag or TAGS[rng.choice(len(TAGS), p=[SHARES[name] for name in TAGS])]
    choices = contents(tag, "train")
    content = choices[rng.integers(len(choices))]
    return Scene(tag, content.caption(int(rng.integers(len(TEMPLATES[tag])))), draw_scene(content, rng))


def dense_cells(rng: Generator, batch: int) -> NDArray[np.int64]:
    """(B, 16) cells drawn at random, half of them blank: more ink a picture than any caption asks for."""
    cells = rng.integers(len(every_cell()), size=(batch, CELLS))
    return cells * (rng.random((batch, CELLS)) < 0.5)
