"""A scene in the making: what an instruction needs in it, then whatever else may stand around."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from numpy.random import Generator

from rl.data.shapes.edits.contents import cross_pairs
from rl.data.shapes.edits.things import Thing
from rl.data.shapes.sprites import CLASSES, COLORS, GRID, SIZES
from rl.data.shapes.world import CELLS

MOST_THINGS = 5
LEAST_THINGS = 2
Allowed = Callable[[str, str], bool]


@dataclass
class Draft:
    """``single``: classes, and (class, colour) pairs, of which nothing more may be put in, so that "the circle" is one;
    ``blocked``: places that stay empty."""

    rng: Generator
    things: dict[int, Thing] = field(default_factory=dict)
    single: set[str | tuple[str, str]] = field(default_factory=set)
    blocked: set[int] = field(default_factory=set)
    most: int | None = None
    """Things in all; ``None``: a random number."""

    @property
    def free(self) -> list[int]:
        return [place for place in range(CELLS) if place not in self.things and place not in self.blocked]

    def free_place(self, among: Iterable[int] | None = None) -> int:
        free = self.free
        places = free if among is None else [place for place in among if place in free]
        return places[self.rng.integers(len(places))]

    def put(self, name: str, color: str | None = None, place: int | None = None, *, size: str | None = None) -> int:
        """Returns where it stands."""
        place = self.free_place() if place is None else place
        self.things[place] = Thing(name, color or self.color(), size or self.size())
        return place

    def put_letters(self, word: str, row: int, column: int) -> None:
        for offset, letter in enumerate(word):
            self.things[row * GRID + column + offset] = Thing(f"letter {letter}", "black", "")

    def color(self, *, but: Iterable[str] = (), brought: str | None = None) -> str:
        """Any but these; of something of class ``brought`` that comes in unasked, none that only ``cross`` brings."""
        kept = [one for one in COLORS if one not in set(but) and (brought, one) not in cross_pairs()]
        return kept[self.rng.integers(len(kept))]

    def size(self) -> str:
        return SIZES[self.rng.integers(len(SIZES))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def fill(self) -> None:
        """With other things, until there are two to five."""
        wanted = self.most if self.most is not None else int(self.rng.integers(LEAST_THINGS, MOST_THINGS + 1))
        allowed = [
            (name, color)
            for name in CLASSES
            for color in COLORS
            if name not in self.single and (name, color) not in self.single
        ]
        while len(self.things) < wanted and self.free and allowed:
            self.put(*allowed[self.rng.integers(len(allowed))])
