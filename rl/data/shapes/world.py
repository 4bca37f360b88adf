"""Captioned scenes that mirror GenEval's six tasks (arXiv 2310.11513), plus words to read and details that no image
token holds, in GenEval's format.

A scene is 16 cell indices into ``sprites.every_cell()``: 0 is blank, then shapes, then letters; each cell has a look
(``looks.LOOKS``), 0 where a caption says nothing about details. What a caption asks for is its *content*; contents are
split into train / rl / heldout once, by construction, so no combination crosses over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.shapes.captions import TEMPLATES, WORDS, described
from rl.data.shapes.looks import FIGURES, GROUNDS, SHADED_COLORS, Look, every_look
from rl.data.shapes.sprites import CELL, CLASSES, COLORS, GRID, LETTERS, SIDE, SIZES
from rl.types import UserError

GENEVAL_TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
DETAIL_TAGS = ("ground", "look", "look_attr", "details")
TAGS = (*GENEVAL_TAGS, "ocr", *DETAIL_TAGS)
SPLITS = ("train", "rl", "heldout")
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = {"two": 2, "three": 3, "four": 4}
_SHARES = (0.6, 0.2)  # train, rl; the rest is held out
_SPLIT_SEED = 7
_SPELLINGS, _SPELLING_SEED = 4000, 7
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
        return texts[template % len(texts)].format(*self._phrases(), plural=plural(self.words[-1]))

    def _phrases(self) -> tuple[str, ...]:
        match self.tag:
            case "look":
                return (described(*self.words),)
            case "look_attr" | "details":
                figure, name, other_figure, other_name, ground = self.words
                return described(figure, name), described(other_figure, other_name), ground
            case _:
                return self.words

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
            case "ground":
                return [(w[1], w[0])]
            case "look":
                return [(w[2], w[1])]
            case "look_attr" | "details":
                return [(w[1], None), (w[3], None)]
            case _:
                return []

    @property
    def ground(self) -> str:
        """Plain where the caption says nothing."""
        return self.words[-1] if self.tag in ("ground", "look_attr", "details") else GROUNDS[0]

    def figures(self) -> dict[str, str]:
        """Class of each object asked for -> how it is drawn, one of ``looks.FIGURES``."""
        w, names = self.words, dict.fromkeys((name for name, _ in self.objects()), FIGURES[0])
        match self.tag:
            case "look":
                return {w[2]: w[0]}
            case "look_attr" | "details":
                return {w[1]: w[0], w[3]: w[2]}
            case _:
                return names

    def metadata(self) -> dict[str, Any]:
        """GenEval's clauses, and ``details`` where the caption asks for some. ``exclude`` names every extra object, so
        a picture full of objects passes nothing."""
        if self.tag == "ocr":
            return {"tag": "ocr", "text": self.words[0]}
        objects = self.objects()
        counts = {name: sum(name == other for other, _ in objects) for name in CLASSES}
        exclude = [{"class": name, "count": counts[name] + 1} for name in CLASSES]
        found = {"tag": self.tag, "include": self._include(objects, counts), "exclude": exclude}
        return {**found, "details": self._details()} if self.tag in DETAIL_TAGS else found

    def _details(self) -> dict[str, Any]:
        looks = {name: Look.of(self.ground, figure) for name, figure in self.figures().items()}
        objects = [{"class": name, "shade": look.shade, "outlined": look.outlined} for name, look in looks.items()]
        return {"ground": self.ground, "objects": objects}

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


def plural(name: str) -> str:
    return name + ("es" if name.endswith("ss") else "s")


@cache
def contents(tag: str, split: str) -> tuple[Content, ...]:
    """All contents of one task in one split. Raises: UserError on an unknown task or split."""
    if tag not in TAGS:
        raise UserError(f"shapes world: unknown task '{tag}'; choose among {', '.join(TAGS)}.")
    if split not in SPLITS:
        raise UserError(f"shapes world: unknown split '{split}'; choose among {', '.join(SPLITS)}.")
    if tag == "details":  # two objects drawn alike: those of the harder task where nothing is to be told apart
        return tuple(Content(tag, one.words) for one in contents("look_attr", split) if one.words[0] == one.words[2])
    everything = [Content(tag, words) for words in _combinations(tag)]
    order = np.random.default_rng([_SPLIT_SEED, TAGS.index(tag)]).permutation(len(everything))
    edges = [round(len(everything) * share) for share in np.cumsum(_SHARES)]
    parts = dict(zip(SPLITS, np.split(order, edges), strict=True))
    found = tuple(everything[index] for index in parts[split])
    return found + _spellings() if (tag, split) == ("ocr", "train") else found


def _spellings() -> tuple[Content, ...]:
    """Letters in any order, none of them a word: the few words alone would be learnt by heart, these teach to spell."""
    rng = np.random.default_rng([_SPLIT_SEED, _SPELLING_SEED])
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
        case "ground":
            return list(product(COLORS, CLASSES, GROUNDS[1:]))
        case "look":
            return list(product(FIGURES[1:], SHADED_COLORS, CLASSES))
        case "look_attr":
            drawn = [figures for figures in product(FIGURES, repeat=2) if any(figures)]
            asked = product(combinations(CLASSES, 2), drawn, GROUNDS[1:])
            return [(figure, a, other, b, ground) for (a, b), (figure, other), ground in asked]
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
    figures = content.figures()
    for place, (name, color) in zip(places, objects, strict=True):
        colors = SHADED_COLORS if figures[name] else tuple(COLORS)
        color = color or colors[rng.integers(len(colors))]
        cells[place] = shape_cell(name, SIZES[rng.integers(len(SIZES))], color)
    return cells


def looks_of(content: Content, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """The look of each of 16 cells as ``content`` asks: its ground everywhere, figures on the classes it names."""
    looks = np.full(CELLS, GROUNDS.index(content.ground) * len(FIGURES))
    for name, figure in content.figures().items():
        looks[class_of(cells) == CLASSES.index(name)] += FIGURES.index(figure)
    return looks


def class_of(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each cell's class, -1 for blanks and letters."""
    per_class = len(SIZES) * len(COLORS)
    index = (cells - 1) // per_class
    return np.where((cells > 0) & (index < len(CLASSES)), index, -1)


@cache
def pairs_in_relation(relation: str) -> list[tuple[int, int]]:
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
    pairs = pairs_in_relation(relation)
    return list(pairs[rng.integers(len(pairs))])


def picture(cells: NDArray[np.int64], looks: NDArray[np.int64] | int = 0) -> NDArray[np.uint8]:
    """16 cell indices, and the look of each -> (64, 64, 3) uint8; a leading batch axis is kept."""
    tiles = every_look()[looks, cells].reshape(*cells.shape[:-1], GRID, GRID, CELL, CELL, 3)
    return np.ascontiguousarray(np.moveaxis(tiles, -4, -3).reshape(*cells.shape[:-1], SIDE, SIDE, 3))
