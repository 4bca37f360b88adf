"""Captioned scenes that mirror GenEval's six tasks (arXiv 2310.11513), plus words to read, in GenEval's format.

A scene is 16 cell indices into ``sprites.every_cell()``: 0 is blank, then shapes, then letters. What a caption asks for
is its *content*; contents are split into train / rl / heldout once, by construction, so no combination crosses over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.shapes.captions import TEMPLATES, WORDS
from rl.data.shapes.sprites import CELL, CLASSES, COLORS, GRID, LETTERS, SIDE, SIZES, every_cell
from rl.types import UserError

GENEVAL_TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
TAGS = (*GENEVAL_TAGS, "ocr")
SPLITS = ("train", "rl", "heldout")
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = {"two": 2, "three": 3, "four": 4}
_SHARES = (0.6, 0.2)  # train, rl; the rest is held out
_SPLIT_SEED = 7
_SPELLINGS = 4000
CELLS = GRID * GRID


@dataclass(frozen=True)
class Content:
    """What a caption asks for. ``Content("color_attr", ("red", "circle", "blue", "star"))``."""

    tag: str
    words: tuple[str, ...]

    def caption(self, template: int) -> str:
        texts = TEMPLATES[self.tag]
        if self.tag == "single_object":  # few classes: its paraphrase is part of the combination
            template = int(self.words[1])
        return texts[template % len(texts)].format(*self.words, plural=_plural(self.words[-1]))

    def objects(self) -> list[tuple[str, str | None]]:
        """(class, colour or None) of every object asked for."""
        w = self.words
        match self.tag:
            case "single_object":
                return [(w[0], None)]
            case "two_object":
                return [(w[0], None), (w[1], None)]
            case "counting":
                return [(w[1], None)] * COUNTS[w[0]]
            case "colors":
                return [(w[1], w[0])]
            case "position":
                return [(w[0], None), (w[2], None)]
            case "color_attr":
                return [(w[1], w[0]), (w[3], w[2])]
            case _:
                return []

    def metadata(self) -> dict[str, Any]:
        """GenEval's clauses. ``exclude`` names every extra object, so a picture full of objects passes nothing."""
        if self.tag == "ocr":
            return {"tag": "ocr", "text": self.words[0]}
        objects = self.objects()
        counts = {name: sum(name == other for other, _ in objects) for name in CLASSES}
        exclude = [{"class": name, "count": counts[name] + 1} for name in CLASSES]
        return {"tag": self.tag, "include": self._include(objects, counts), "exclude": exclude}

    def _include(self, objects: list[tuple[str, str | None]], counts: dict[str, int]) -> list[dict[str, Any]]:
        if self.tag == "position":
            first, relation, second = self.words
            placed = {"class": first, "count": 1, "position": [relation, 0]}
            return [{"class": second, "count": 1}, placed]
        clauses: list[dict[str, Any]] = []
        for name, color in dict.fromkeys(objects):
            clause: dict[str, Any] = {"class": name, "count": counts[name]}
            clauses.append(clause if color is None else {**clause, "color": color})
        return clauses


def _plural(name: str) -> str:
    return name + ("es" if name.endswith("ss") else "s")


@cache
def contents(tag: str, split: str) -> tuple[Content, ...]:
    """All contents of one task in one split. Raises: UserError on an unknown task or split."""
    if tag not in TAGS:
        raise UserError(f"shapes world: unknown task '{tag}'; choose among {', '.join(TAGS)}.")
    if split not in SPLITS:
        raise UserError(f"shapes world: unknown split '{split}'; choose among {', '.join(SPLITS)}.")
    everything = [Content(tag, words) for words in _combinations(tag)]
    order = np.random.default_rng([_SPLIT_SEED, TAGS.index(tag)]).permutation(len(everything))
    edges = [round(len(everything) * share) for share in np.cumsum(_SHARES)]
    parts = dict(zip(SPLITS, np.split(order, edges), strict=True))
    found = tuple(everything[index] for index in parts[split])
    return found + _spellings() if (tag, split) == ("ocr", "train") else found


def _spellings() -> tuple[Content, ...]:
    """Letters in any order, none of them a word: the few words alone would be learnt by heart, these teach to spell."""
    rng = np.random.default_rng([_SPLIT_SEED, len(TAGS)])
    found: dict[str, None] = {}
    while len(found) < _SPELLINGS:
        letters = "".join(rng.choice(list(LETTERS), size=int(rng.integers(3, GRID + 1))))
        if letters not in WORDS:
            found[letters] = None
    return tuple(Content("ocr", (letters,)) for letters in found)


def _combinations(tag: str) -> list[tuple[str, ...]]:
    match tag:
        case "single_object":
            return [(name, str(k)) for name in CLASSES for k in range(len(TEMPLATES[tag]))]
        case "two_object":
            return list(combinations(CLASSES, 2))
        case "counting":
            return list(product(COUNTS, CLASSES))
        case "colors":
            return list(product(COLORS, CLASSES))
        case "position":
            return [(a, relation, b) for a, b in permutations(CLASSES, 2) for relation in RELATIONS]
        case "color_attr":
            pairs = product(permutations(COLORS, 2), combinations(CLASSES, 2))
            return [(c1, a, c2, b) for (c1, c2), (a, b) in pairs]
        case _:
            return [(word,) for word in WORDS]


def shape_cell(name: str, size: str, color: str) -> int:
    """Cell index of one coloured shape."""
    per_class = len(SIZES) * len(COLORS)
    return 1 + CLASSES.index(name) * per_class + SIZES.index(size) * len(COLORS) + list(COLORS).index(color)


def letter_cell(letter: str) -> int:
    return 1 + len(CLASSES) * len(SIZES) * len(COLORS) + LETTERS.index(letter)


def draw_scene(content: Content, rng: Generator) -> NDArray[np.int64]:
    """One scene that satisfies ``content``: 16 cell indices in raster order."""
    cells = np.zeros(CELLS, dtype=np.int64)
    if content.tag == "ocr":
        word = content.words[0]
        row, column = rng.integers(GRID), rng.integers(GRID - len(word) + 1)
        cells[row * GRID + column : row * GRID + column + len(word)] = [letter_cell(letter) for letter in word]
        return cells
    objects = content.objects()
    places = _related_places(content.words[1], rng) if content.tag == "position" else None
    if places is None:
        places = rng.permutation(CELLS)[: len(objects)].tolist()
    for place, (name, color) in zip(places, objects, strict=True):
        color = color or list(COLORS)[rng.integers(len(COLORS))]
        cells[place] = shape_cell(name, SIZES[rng.integers(len(SIZES))], color)
    return cells


@cache
def _pairs_in_relation(relation: str) -> list[tuple[int, int]]:
    """Places (first, second) with the first clearly in ``relation`` to the second."""
    found = []
    for first, second in permutations(range(CELLS), 2):
        dy, dx = first // GRID - second // GRID, first % GRID - second % GRID
        along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
        sign = -1 if relation in ("left of", "above") else 1
        if along * sign > abs(across):
            found.append((first, second))
    return found


def _related_places(relation: str, rng: Generator) -> list[int]:
    pairs = _pairs_in_relation(relation)
    return list(pairs[rng.integers(len(pairs))])


def picture(cells: NDArray[np.int64]) -> NDArray[np.uint8]:
    """16 cell indices -> (64, 64, 3) uint8; a leading batch axis is kept."""
    tiles = every_cell()[cells].reshape(*cells.shape[:-1], GRID, GRID, CELL, CELL, 3)
    return np.ascontiguousarray(np.moveaxis(tiles, -4, -3).reshape(*cells.shape[:-1], SIDE, SIDE, 3))
