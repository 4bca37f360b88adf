"""Edits below the codebook: shade, outline and ground, in pictures in which everything has details.

The image tokens before and after are the same. What is not asked for must stay in its details too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.shapes.edits.contents import EditContent
from rl.data.shapes.edits.draft import Draft
from rl.data.shapes.edits.example import EditExample, drawn_as, has_ground
from rl.data.shapes.edits.instructions import instruction
from rl.data.shapes.edits.things import cell_box, scene_of
from rl.data.shapes.looks import FIGURES, GROUNDS, SHADES, Look
from rl.data.shapes.world import CELLS


def make_fine(content: EditContent, rng: Generator, choice: int = 0) -> EditExample:
    """One edit of ``content`` in a picture of its own; ``choice``: which words it is asked for in."""
    draft = Draft(rng)
    if content.tag == "fine_ground":
        return _ground(content, draft, choice)
    name, color, *shade = content.words
    by_color = draft.chance(0.5)
    place = draft.put(name, color)
    draft.single.add((name, color) if by_color else name)
    if by_color and draft.chance(0.5):
        draft.put(name, draft.color(but=(color,)))
    draft.fill()
    looks = _looks(draft, str(rng.choice(GROUNDS)))
    before = looks[place]
    if shade:
        others = [one for one in SHADES if one != shade[0]]
        before = replace(before, shade=str(rng.choice(others)))
        after = replace(before, shade=shade[0])
    else:
        before, after = replace(before, outlined=False), replace(before, outlined=True)
    told = {"described": f"{color} {name}" if by_color else name, "shade": "".join(shade)}
    box = cell_box(place)
    return EditExample(
        tag=content.tag,
        instruction=instruction(content.tag, told, choice),
        source=scene_of(draft.things),
        target=scene_of(draft.things),
        clauses=(drawn_as(box, draft.things[place], place, after.shade, after.outlined),),
        editable=(place,),
        looks=(_numbers({**looks, place: before}), _numbers({**looks, place: after})),
    )


def _ground(content: EditContent, draft: Draft, choice: int) -> EditExample:
    old, new, name, color = content.words
    draft.put(name, color)
    draft.fill()
    looks, scene = _looks(draft, old), scene_of(draft.things)
    return EditExample(
        tag=content.tag,
        instruction=instruction(content.tag, {"ground": new}, choice),
        source=scene,
        target=scene,
        clauses=(has_ground(new),),
        editable=(),
        looks=(_numbers(looks), _numbers({place: replace(look, ground=new) for place, look in looks.items()})),
    )


def _looks(draft: Draft, ground: str) -> dict[int, Look]:
    """Of every cell: one ground, and what stands there in details at random."""
    looks = {place: Look(ground) for place in range(CELLS)}
    for place in draft.things:
        looks[place] = Look.of(ground, FIGURES[draft.rng.integers(len(FIGURES))])
    return looks


def _numbers(looks: dict[int, Look]) -> NDArray[np.int64]:
    return np.array([looks[place].index for place in range(CELLS)])
