"""One edit, whole: the picture, the instruction, what it asks for, and an answer that does just that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.data.shapes.edits.things import Thing, cell_box
from rl.data.shapes.world import picture

Clause = Mapping[str, Any]
"""One thing that must be so, as ``rewards.library.edit`` reads it."""


@dataclass(frozen=True)
class EditExample:
    """``source`` and ``target``: 16 cell indices each; ``editable``: places in which something may change."""

    tag: str
    instruction: str
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    clauses: tuple[Clause, ...]
    editable: tuple[int, ...]
    looks: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    """Of the 16 cells before and after; ``None``: details are nobody's business, and there are none."""

    @property
    def before(self) -> NDArray[np.uint8]:
        """(64, 64, 3)."""
        return picture(self.source, 0 if self.looks is None else self.looks[0])

    @property
    def after(self) -> NDArray[np.uint8]:
        """The oracle's answer: an exact edit, (64, 64, 3)."""
        return picture(self.target, 0 if self.looks is None else self.looks[1])

    def metadata(self) -> dict[str, Any]:
        """``{"tag": "edit_move", "task": "edit", "edit": {"clauses": [...], "editable": [boxes]}}``."""
        edit: dict[str, Any] = {
            "clauses": [dict(one) for one in self.clauses],
            "editable": [list(cell_box(place)) for place in self.editable],
        }
        if self.looks is not None:
            edit["looks"] = True
        return {"tag": self.tag, "task": "edit", "edit": edit}


def holds_one(
    box: Sequence[float], name: str, color: str | None = None, extent: Sequence[float] | None = None
) -> Clause:
    """``box`` holds one thing alone: of this class, of this colour, covering ``extent``."""
    asked = {"color": color, "box": None if extent is None else list(extent)}
    return {"holds": name, **{key: value for key, value in asked.items() if value is not None}, "in": list(box)}


def is_empty(box: Sequence[float]) -> Clause:
    return {"empty": True, "in": list(box)}


def counts(name: str, number: int) -> Clause:
    """So many of the class in the whole picture: those of before, or as many of them as there may be."""
    return {"count": name, "number": number}


def one_more(name: str, color: str, relation: str | None = None, anchor: str | None = None) -> Clause:
    """One more of class and colour than before, which stands in ``relation`` to the ``anchor``."""
    where = {} if relation is None else {"relation": [relation, anchor]}
    return {"more": name, "color": color, **where}


def reads(word: str, box: Sequence[float], first: Sequence[float]) -> Clause:
    """The letters in ``box``, from left to right, the first of them inside ``first``."""
    return {"reads": word, "in": list(box), "starts": list(first)}


def drawn_as(box: Sequence[float], thing: Thing, place: int, shade: str, outlined: bool) -> Clause:
    """``box`` holds the very thing that stands in ``place``, drawn so."""
    asked = holds_one(box, thing.name, thing.color, thing.box(place))
    return {**asked, "shade": shade, "outlined": outlined}


def has_ground(name: str) -> Clause:
    """Of the whole picture."""
    return {"ground": name}
