"""GenEval's six tasks over the 80 classes of COCO, as many prompts as one wants: `use: geneval`.

Source: the rules that GenEval (arXiv 2310.11513; code MIT, github.com/djghosh13/geneval) publishes for its prompts:
"a photo of ..." one object, two objects, two to four of one, one in a colour, two in a relation, two in a colour each.
Written anew, Apache-2.0 as this project; the benchmark's own 553 prompts are not in here. They are a file, which
`use: jsonl` reads as it is: ``prompts/evaluation_metadata.jsonl`` of that repository. To train on these rules and
evaluate on that file, name it in ``without``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from rl.data.presets.coco import CLASSES, one, plural
from rl.data.presets.splits import Split, half
from rl.data.prompt_list import PromptList, gathered
from rl.data.prompts import prompt_file
from rl.data.row import to_prompt
from rl.registry import did_you_mean
from rl.types import UserError

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {"two": 2, "three": 3, "four": 4}
_THINGS = tuple(name for name in CLASSES if name != "person")  # nobody is asked for in a colour
_PAIRS = tuple(combinations(CLASSES, 2))
_ROUNDS = 200  # of the same parts in other orders, relations and colours

Row = dict[str, Any]
Subject = tuple[str, ...]


class _Task(NamedTuple):
    """``parts``: what is split between training and held-out prompts; ``row``: a prompt of one of them."""

    parts: tuple[Subject, ...]
    row: Callable[[Subject, Generator], Row]


def geneval(
    *,
    split: Split = "train",
    per_task: int | Mapping[str, int] = 100,
    tags: Sequence[str] = ("single_object", "two_object", "counting", "colors", "position", "color_attr"),
    seed: int = 0,
    without: str | None = None,
) -> PromptList:
    """Prompts with the metadata of the official file: ``tag``, ``include``, ``exclude``.

    ``split``: in no task do ``train`` and ``heldout`` share what it asks for (a class, a pair of classes, a number or
    a colour of a class), whatever ``seed`` chooses. ``per_task``: at most so many of each, as some tasks have fewer; or
    exactly a number for each of ``tags``. ``without``: a prompt file, whose texts are left out. Raises UserError.
    """
    left_out = {prompt.text for prompt in prompt_file(without)} if without else set()
    rows: list[Row] = []
    for tag in tags:
        if tag not in _TASKS:
            raise UserError(
                f"geneval: there is no task {tag!r}{did_you_mean(tag, _TASKS)} (known: {', '.join(_TASKS)})"
            )
        rows += _rows(tag, _wanted(per_task, tag), split, seed, left_out, exact=not isinstance(per_task, int))
    where = f"geneval[{split}]"
    return gathered((to_prompt(row, f"{where}:{number}") for number, row in enumerate(rows)), where)


def _wanted(per_task: int | Mapping[str, int], tag: str) -> int:
    count = per_task.get(tag) if isinstance(per_task, Mapping) else per_task
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UserError(f"geneval: per_task says {count!r} for {tag!r}; give a whole number, or leave it out of tags")
    return count


def _rows(tag: str, count: int, split: Split, seed: int, left_out: set[str], *, exact: bool) -> list[Row]:
    found: dict[str, Row] = {}
    for row in _variants(tag, split, np.random.default_rng([seed, list(_TASKS).index(tag)])):
        if len(found) == count:
            break
        if row["prompt"] not in left_out:
            found.setdefault(row["prompt"], {"tag": tag, **row})
    if exact and len(found) < count:
        raise UserError(f"geneval: {tag!r} has {len(found)} prompts in {split!r}, and per_task asks for {count}")
    return list(found.values())


def _variants(tag: str, split: Split, rng: Generator) -> Iterator[Row]:
    """Each part once, then each once more, and so on: in an order of its own each time."""
    task = _TASKS[tag]
    parts = half(task.parts, split, "geneval")
    for _ in range(_ROUNDS):
        for index in rng.permutation(len(parts)):
            yield task.row(parts[index], rng)


def _shuffled(pair: Subject, rng: Generator) -> list[str]:
    return [pair[index] for index in rng.permutation(2)]


def _clause(name: str, count: int = 1, **more: object) -> Row:
    return {"class": name, "count": count, **more}


def _single_object(subject: Subject, _: Generator) -> Row:
    return {"include": [_clause(subject[0])], "prompt": f"a photo of {one(subject[0])}"}


def _two_object(subject: Subject, rng: Generator) -> Row:
    a, b = _shuffled(subject, rng)
    return {"include": [_clause(a), _clause(b)], "prompt": f"a photo of {one(a)} and {one(b)}"}


def _counting(subject: Subject, _: Generator) -> Row:
    number, name = subject
    count = NUMBERS[number]
    clauses = {"include": [_clause(name, count)], "exclude": [_clause(name, count + 1)]}
    return {**clauses, "prompt": f"a photo of {number} {plural(name)}"}


def _colors(subject: Subject, _: Generator) -> Row:
    color, name = subject
    return {"include": [_clause(name, color=color)], "prompt": f"a photo of {one(f'{color} {name}')}"}


def _position(subject: Subject, rng: Generator) -> Row:
    placed, anchor = _shuffled(subject, rng)
    relation = str(rng.choice(RELATIONS))
    include = [_clause(anchor), _clause(placed, position=[relation, 0])]
    return {"include": include, "prompt": f"a photo of {one(placed)} {relation} {one(anchor)}"}


def _color_attr(subject: Subject, rng: Generator) -> Row:
    (a, b), (first, second) = _shuffled(subject, rng), map(str, rng.choice(COLORS, size=2, replace=False))
    include = [_clause(a, color=first), _clause(b, color=second)]
    return {"include": include, "prompt": f"a photo of {one(f'{first} {a}')} and {one(f'{second} {b}')}"}


_TASKS = {
    "single_object": _Task(tuple((name,) for name in CLASSES), _single_object),
    "two_object": _Task(_PAIRS, _two_object),
    "counting": _Task(tuple(product(NUMBERS, CLASSES)), _counting),
    "colors": _Task(tuple(product(COLORS, _THINGS)), _colors),
    "position": _Task(_PAIRS, _position),
    "color_attr": _Task(tuple(combinations(_THINGS, 2)), _color_attr),
}
