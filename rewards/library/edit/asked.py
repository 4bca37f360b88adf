"""What an instruction asks for, as ``metadata["edit"]`` says it: clauses that must hold, and what may change.

``{"clauses": [...], "editable": [...], "keep": [...], "looks": true}``. A clause is one of

- ``{"holds": "cat", "color": "blue", "in": box}``: one object stands in the box, and it is this (``color`` and, for its
  size, ``box`` if given); without ``in``: such an object is somewhere;
- ``{"empty": true, "in": box}``: nothing stands there;
- ``{"count": "cat", "number": 3}``: so many of the class, of those of before as many as there can be;
- ``{"more": "cat", "color": "blue", "relation": ["left of", "dog"]}``: one more than before (``color`` and ``relation``
  if given);
- ``{"holds": "circle", "shade": "pale", "outlined": true, "in": box}``: the same, drawn so (the shapes world alone);
- ``{"ground": "striped"}``: the whole picture has this ground (likewise);
- ``{"reads": "CAT", "in": box, "starts": box}``: letters, from left to right, of detectors that find ``letter A``.

Boxes are ``[x0, y0, x1, y1]`` in shares of the picture, y down. ``editable``: boxes, and classes of which every object
may change; without it the classes that the clauses name. ``keep``: more classes to look for, for detectors that are
told what to find. ``looks``: what must stay must stay in its details too, shade, outline and ground; true where a
clause names one. No clauses: nothing is to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rewards.library.geneval.boxes import Box
from rl.data.shapes.looks import GROUNDS, SHADES

EDIT = "edit"
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Holds:
    label: str
    color: str | None = None
    region: Box | None = None
    box: Box | None = None
    shade: str | None = None
    outlined: bool | None = None


@dataclass(frozen=True)
class Grounded:
    ground: str


@dataclass(frozen=True)
class Empty:
    region: Box


@dataclass(frozen=True)
class Counted:
    label: str
    number: int


@dataclass(frozen=True)
class More:
    label: str
    color: str | None = None
    relation: str | None = None
    anchor: str | None = None


@dataclass(frozen=True)
class Reads:
    text: str
    region: Box
    starts: Box | None = None


EditClause = Holds | Empty | Counted | More | Reads | Grounded


@dataclass(frozen=True)
class AskedEdit:
    clauses: tuple[EditClause, ...]
    regions: tuple[Box, ...]
    classes: frozenset[str]
    """Of which every object may change."""
    labels: tuple[str, ...]
    """All that is named: what a detector is told to look for."""
    colors: tuple[str, ...]
    looks: bool = False
    """Details count: shade, outline, ground."""

    @property
    def ground(self) -> str | None:
        """That is asked for."""
        return next((one.ground for one in self.clauses if isinstance(one, Grounded)), None)


def parse_edit(metadata: Mapping[str, object]) -> AskedEdit | None:
    """``None`` without ``edit``. Raises ``ValueError`` naming the entry that is malformed."""
    given = metadata.get(EDIT)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError(f"edit is {given!r}: it must be a mapping with 'clauses' and 'editable'")
    if unknown := sorted(set(map(str, given)) - {"clauses", "editable", "keep", "looks"}):
        raise ValueError(f"edit.{unknown[0]} is none of its keys: clauses, editable, keep, looks")
    clauses = tuple(_clause(one, f"edit.clauses[{i}]") for i, one in enumerate(_list(given, "clauses")))
    named = tuple(dict.fromkeys(label for clause in clauses for label in _labels(clause)))
    editable = _list(given, "editable") if given.get("editable") is not None else list(named)
    regions = tuple(_box(one, f"edit.editable[{i}]") for i, one in enumerate(editable) if not isinstance(one, str))
    classes = frozenset(one for one in editable if isinstance(one, str))
    keep = [_text(one, f"edit.keep[{i}]") for i, one in enumerate(_list(given, "keep"))]
    colors = tuple(dict.fromkeys(one.color for one in clauses if isinstance(one, Holds | More) and one.color))
    labels = tuple(dict.fromkeys((*named, *sorted(classes), *keep)))
    looks = _flag(given, "looks", "edit") or any(_details(one) for one in clauses)
    return AskedEdit(clauses, regions, classes, labels, colors, looks)


def metadata_problem(metadata: Mapping[str, object]) -> str | None:
    """Which entry is malformed; ``None`` if none is."""
    try:
        parse_edit(metadata)
    except ValueError as error:
        return str(error)
    return None


def _details(clause: EditClause) -> bool:
    if isinstance(clause, Holds):
        return clause.shade is not None or clause.outlined is not None
    return isinstance(clause, Grounded)


def _labels(clause: EditClause) -> Sequence[str]:
    match clause:
        case Holds(label) | Counted(label):
            return (label,)
        case More(label, anchor=anchor):
            return (label,) if anchor is None else (label, anchor)
        case _:
            return ()


def _clause(entry: object, where: str) -> EditClause:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is {entry!r}: it must be a mapping such as {{'holds': 'cat', 'in': [0, 0, 1, 1]}}")
    kinds = [kind for kind in _READERS if kind in entry]
    if len(kinds) != 1:
        raise ValueError(f"{where} must hold one of {', '.join(_READERS)}, it holds {', '.join(map(str, entry))}")
    reader, known = _READERS[kinds[0]]
    if unknown := sorted(set(map(str, entry)) - {kinds[0], *known}):
        raise ValueError(f"{where}.{unknown[0]} is no key of a clause with {kinds[0]!r}")
    return reader(entry, where)


def _holds(entry: Mapping[str, object], where: str) -> EditClause:
    found = Holds(_text(entry["holds"], f"{where}.holds"), _color(entry, where), _region(entry, "in", where))
    shade = None if entry.get("shade") is None else _one_of(entry["shade"], SHADES, f"{where}.shade")
    outlined = _flag(entry, "outlined", where) if "outlined" in entry else None
    return replace(found, box=_region(entry, "box", where), shade=shade, outlined=outlined)


def _ground(entry: Mapping[str, object], where: str) -> EditClause:
    return Grounded(_one_of(entry["ground"], GROUNDS, f"{where}.ground"))


def _empty(entry: Mapping[str, object], where: str) -> EditClause:
    return Empty(_box(entry.get("in"), f"{where}.in"))


def _count(entry: Mapping[str, object], where: str) -> EditClause:
    number = entry.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{where}.number is {number!r}: it must be a whole number of at least 0")
    return Counted(_text(entry["count"], f"{where}.count"), number)


def _more(entry: Mapping[str, object], where: str) -> EditClause:
    found = More(_text(entry["more"], f"{where}.more"), _color(entry, where))
    match entry.get("relation"):
        case None:
            return found
        case [str(relation), str(anchor)] if relation in RELATIONS:
            return replace(found, relation=relation, anchor=anchor)
    raise ValueError(f"{where}.relation is {entry['relation']!r}: it must be [{' | '.join(RELATIONS)}, a class]")


def _reads(entry: Mapping[str, object], where: str) -> EditClause:
    text, region = _text(entry["reads"], f"{where}.reads"), _box(entry.get("in"), f"{where}.in")
    return Reads(text, region, _region(entry, "starts", where))


_READERS = {
    "holds": (_holds, ("color", "in", "box", "shade", "outlined")),
    "empty": (_empty, ("in",)),
    "count": (_count, ("number",)),
    "more": (_more, ("color", "relation")),
    "reads": (_reads, ("in", "starts")),
    "ground": (_ground, ()),
}


def _list(given: Mapping[str, object], key: str) -> list[object]:
    value = given.get(key)
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"edit.{key} is {value!r}: it must be a list")
    return list(value)


def _flag(given: Mapping[str, object], key: str, where: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{where}.{key} is {value!r}: it must be true or false")
    return value


def _one_of(value: object, known: Sequence[str], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{where} is {value!r}: it must be one of {', '.join(known)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} is {value!r}: it must be a text")
    return value


def _color(entry: Mapping[str, object], where: str) -> str | None:
    return None if entry.get("color") is None else _text(entry["color"], f"{where}.color")


def _region(entry: Mapping[str, object], key: str, where: str) -> Box | None:
    return None if entry.get(key) is None else _box(entry[key], f"{where}.{key}")


def _box(value: object, where: str) -> Box:
    match value:
        case [int() | float() as x0, int() | float() as y0, int() | float() as x1, int() | float() as y1]:
            if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
                return float(x0), float(y0), float(x1), float(y1)
    raise ValueError(f"{where} is {value!r}: it must be a box [x0, y0, x1, y1] of shares of the picture, 0 to 1")
