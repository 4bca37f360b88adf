"""What can be asked for, split once: contents of ``heldout`` are in no other split, and the pairs of class and colour
that ``cross`` brings into a picture are brought in by no edit of any other split, whatever its operation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product

import numpy as np

from rl.data.shapes.edits.instructions import COUNT_WORDS, DIRECTIONS
from rl.data.shapes.looks import GROUNDS, SHADED_COLORS, SHADES
from rl.data.shapes.sprites import CLASSES, COLORS, LETTERS
from rl.data.shapes.world import RELATIONS, contents
from rl.types import UserError

EDIT_TAGS = (
    *("edit_add", "edit_add_at", "edit_remove", "edit_recolour", "edit_replace"),
    *("edit_move", "edit_swap", "edit_count", "edit_word", "edit_letter"),
)
"""The ten operations."""
PROBE_TAGS = ("edit_keep", "edit_two")
"""To be evaluated alone: leave everything as it is, and two operations in one instruction."""
FINE_EDIT_TAGS = ("fine_shade", "fine_outline", "fine_ground")
"""Operations below the codebook: no image token holds what they ask for, so that the decoder alone can obey."""
EDIT_SPLITS = ("train", "rl", "heldout", "cross")
ANY = ""
"""A colour that the instruction leaves open."""
_SHARES = (0.6, 0.2)
_SPLIT_SEED, _CROSS_SEED = 11, 11_000
_CROSS_PAIRS = 7  # of the 36 of class and colour
_BRINGS = ("edit_add", "edit_add_at", "edit_recolour", "edit_replace")
"""Operations that name the class and colour of what they bring in."""


@dataclass(frozen=True)
class EditContent:
    """What an instruction asks for, without its words. ``EditContent("edit_recolour", ("circle", "red", "blue"))``."""

    tag: str
    words: tuple[str, ...]

    @property
    def brings(self) -> tuple[str, str] | None:
        """(class, colour) of what comes into the picture; ``None`` where the instruction does not name both."""
        w = self.words
        match self.tag:
            case "edit_add" | "edit_add_at":
                return w[1], w[0]
            case "edit_recolour":
                return w[0], w[2]
            case "edit_replace" if w[2] != ANY:
                return w[1], w[2]
            case _:
                return None


@cache
def cross_pairs() -> frozenset[tuple[str, str]]:
    """(class, colour) that only ``cross`` brings in."""
    pairs = list(product(CLASSES, COLORS))
    order = np.random.default_rng(_CROSS_SEED).permutation(len(pairs))
    return frozenset(pairs[index] for index in order[:_CROSS_PAIRS])


@cache
def edit_contents(tag: str, split: str) -> tuple[EditContent, ...]:
    """All contents of one operation in one split. Raises: UserError on an unknown one, or if the split has none."""
    if tag not in (*EDIT_TAGS, *PROBE_TAGS, *FINE_EDIT_TAGS):
        known = ", ".join((*EDIT_TAGS, *PROBE_TAGS, *FINE_EDIT_TAGS))
        raise UserError(f"shapes world: unknown edit '{tag}'; choose among {known}.")
    if split not in EDIT_SPLITS:
        raise UserError(f"shapes world: unknown split '{split}' of edits; choose among {', '.join(EDIT_SPLITS)}.")
    if split == "cross" and tag not in _BRINGS:
        raise UserError(
            f"shapes world: '{tag}' names no class with a colour that comes in, so split cross has none of it; take "
            f"{', '.join(_BRINGS)}."
        )
    if tag in PROBE_TAGS:
        return (EditContent(tag, ()),)
    if tag == "edit_word":
        words = [content.words for content in contents("ocr", split)]
        return tuple(EditContent(tag, (word,)) for (word,) in words)
    everything = [EditContent(tag, words) for words in _combinations(tag)]
    crossing = [one for one in everything if one.brings in cross_pairs()]
    if split == "cross":
        return tuple(crossing)
    kept = [one for one in everything if one.brings not in cross_pairs()]
    order = np.random.default_rng([_SPLIT_SEED, (*EDIT_TAGS, *FINE_EDIT_TAGS).index(tag)]).permutation(len(kept))
    edges = [round(len(kept) * share) for share in np.cumsum(_SHARES)]
    parts = dict(zip(EDIT_SPLITS, np.split(order, edges), strict=False))
    return tuple(kept[index] for index in parts[split])


def _combinations(tag: str) -> list[tuple[str, ...]]:
    match tag:
        case "edit_add":
            return list(product(COLORS, CLASSES))
        case "edit_add_at":
            pairs = product(COLORS, permutations(CLASSES, 2), RELATIONS)
            return [(color, name, relation, anchor) for color, (name, anchor), relation in pairs]
        case "edit_remove":
            return list(product((ANY, *COLORS), CLASSES))
        case "edit_recolour":
            return [(name, old, new) for name, (old, new) in product(CLASSES, permutations(COLORS, 2))]
        case "edit_replace":
            return [(old, new, color) for (old, new), color in product(permutations(CLASSES, 2), (ANY, *COLORS))]
        case "edit_move":
            return list(product(CLASSES, DIRECTIONS))
        case "edit_swap":
            return list(combinations(CLASSES, 2))
        case "fine_shade":
            return list(product(CLASSES, SHADED_COLORS, SHADES[1:]))
        case "fine_outline":
            return list(product(CLASSES, SHADED_COLORS))
        case "fine_ground":
            grounds = [(old, new) for old, new in permutations(GROUNDS, 2) if new != GROUNDS[0]]
            return [(old, new, name, color) for (old, new), name, color in product(grounds, CLASSES, COLORS)]
        case "edit_count":
            return [(name, old, new) for name, (old, new) in product(CLASSES, permutations(COUNT_WORDS, 2))]
        case _:
            return list(permutations(LETTERS, 2))
