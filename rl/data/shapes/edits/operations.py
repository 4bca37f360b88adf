"""The operations: what each needs in a scene, what it makes of it, and what it asks for, exactly.

A plan puts what it needs into a draft; when the scene is complete, it tells its words, its clauses, what may change and
what does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rl.data.shapes.edits.contents import ANY
from rl.data.shapes.edits.draft import Draft
from rl.data.shapes.edits.example import Clause, counts, holds_one, is_empty, one_more
from rl.data.shapes.edits.instructions import COUNT_WORDS, DIRECTIONS
from rl.data.shapes.edits.things import Thing, cell_box
from rl.data.shapes.sprites import GRID
from rl.data.shapes.world import CELLS, pairs_in_relation, plural


@dataclass(frozen=True)
class SceneChange:
    """``things``: place -> what stands there afterwards, ``None`` for nothing; places that stay are left out."""

    words: dict[str, str]
    clauses: tuple[Clause, ...]
    editable: tuple[int, ...]
    things: dict[int, Thing | None] = field(default_factory=dict)


Finish = Callable[[Draft], SceneChange]
Plan = Callable[[Draft, tuple[str, ...]], Finish]


def add(draft: Draft, words: tuple[str, ...]) -> Finish:
    color, name = words
    if draft.chance(0.5):  # otherwise there may be one already
        draft.single.add((name, color))
    size = draft.size()

    def finish(done: Draft) -> SceneChange:
        place = done.free_place()
        told = {"color": color, "name": name}
        return SceneChange(told, (one_more(name, color),), _empty(done), {place: Thing(name, color, size)})

    return finish


def add_at(draft: Draft, words: tuple[str, ...]) -> Finish:
    color, name, relation, anchor = words
    free = set(draft.free)
    pairs = [pair for pair in pairs_in_relation(relation) if free.issuperset(pair)]
    place, standing = pairs[draft.rng.integers(len(pairs))]
    draft.put(anchor, place=standing)
    draft.single.add(anchor)
    draft.blocked.add(place)
    size = draft.size()

    def finish(done: Draft) -> SceneChange:
        told = {"color": color, "name": name, "relation": relation, "anchor": anchor}
        asked = one_more(name, color, relation, anchor)
        return SceneChange(told, (asked,), _empty(done), {place: Thing(name, color, size)})

    return finish


def remove(draft: Draft, words: tuple[str, ...]) -> Finish:
    color, name = words
    place = draft.put(name, None if color == ANY else color)
    draft.single.add(name if color == ANY else (name, color))
    _another(draft, name, color)

    def finish(done: Draft) -> SceneChange:
        left = _number(done, name) - 1
        asked = (is_empty(cell_box(place)), counts(name, left))
        return SceneChange({"described": f"{color} {name}".strip()}, asked, (place,), {place: None})

    return finish


def recolour(draft: Draft, words: tuple[str, ...]) -> Finish:
    name, old, new = words
    by_color = draft.chance(0.5)
    place = draft.put(name, old)
    draft.single.add((name, old) if by_color else name)
    _another(draft, name, old if by_color else ANY)

    def finish(done: Draft) -> SceneChange:
        told = {"described": f"{old} {name}" if by_color else name, "color": new}
        asked = holds_one(cell_box(place), name, new)
        return SceneChange(told, (asked,), (place,), {place: done.things[place].in_color(new)})

    return finish


def replace(draft: Draft, words: tuple[str, ...]) -> Finish:
    old, new, color = words
    place = draft.put(old, draft.color(brought=new) if color == ANY else None)
    draft.single.add(old)

    def finish(done: Draft) -> SceneChange:
        before = done.things[place]
        after = Thing(new, before.color if color == ANY else color, before.size)
        told = {"name": old, "described": f"{color} {new}".strip()}
        return SceneChange(told, (holds_one(cell_box(place), new, after.color),), (place,), {place: after})

    return finish


def move(draft: Draft, words: tuple[str, ...]) -> Finish:
    name, direction = words
    free = draft.free
    steps = [(place, to) for place in free if (to := _beside(place, direction)) in free]
    place, to = steps[draft.rng.integers(len(steps))]
    draft.put(name, place=place)
    draft.single.add(name)
    draft.blocked.add(to)

    def finish(done: Draft) -> SceneChange:
        thing = done.things[place]
        asked = (is_empty(cell_box(place)), _stands(thing, to))
        return SceneChange({"name": name, "direction": direction}, asked, (place, to), {place: None, to: thing})

    return finish


def swap(draft: Draft, words: tuple[str, ...]) -> Finish:
    one, other = (draft.put(name) for name in words)
    draft.single.update(words)

    def finish(done: Draft) -> SceneChange:
        first, second = done.things[one], done.things[other]
        asked = (_stands(second, one), _stands(first, other))
        return SceneChange({"name": words[0], "other": words[1]}, asked, (one, other), {one: second, other: first})

    return finish


def count(draft: Draft, words: tuple[str, ...]) -> Finish:
    name, old, new = words
    places = [draft.put(name) for _ in range(COUNT_WORDS[old])]
    draft.single.add(name)
    draft.most = max(2, len(places) + int(draft.rng.integers(0, 3)))

    def finish(done: Draft) -> SceneChange:
        wanted = COUNT_WORDS[new]
        told = {"count": new, "plural": plural(name), "counted": name if wanted == 1 else plural(name)}
        editable = tuple(sorted((*places, *_empty(done))))
        things: dict[int, Thing | None] = dict.fromkeys(places[wanted:])
        for place in _some(done, wanted - len(places)):
            things[place] = Thing(name, done.color(brought=name), done.size())
        return SceneChange(told, (counts(name, wanted),), editable, things)

    return finish


def keep(draft: Draft, words: tuple[str, ...]) -> Finish:
    del draft, words
    return lambda _: SceneChange({}, (), ())


def _another(draft: Draft, name: str, color: str) -> None:
    """Half of the time one of the same class in another colour, where the colour tells which is meant."""
    if color != ANY and draft.chance(0.5):
        draft.put(name, draft.color(but=(color,)))


def _stands(thing: Thing, place: int) -> Clause:
    """The very thing, size included."""
    return holds_one(cell_box(place), thing.name, thing.color, thing.box(place))


def _number(draft: Draft, name: str) -> int:
    return sum(thing.name == name for thing in draft.things.values())


def _empty(draft: Draft) -> tuple[int, ...]:
    return tuple(place for place in range(CELLS) if place not in draft.things)


def _some(draft: Draft, number: int) -> list[int]:
    free = draft.free
    return [free[index] for index in draft.rng.permutation(len(free))[: max(0, number)]]


def _beside(place: int, direction: str) -> int | None:
    rows, columns = DIRECTIONS[direction]
    row, column = place // GRID + rows, place % GRID + columns
    return row * GRID + column if 0 <= row < GRID and 0 <= column < GRID else None
