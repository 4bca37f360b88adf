"""What a prompt asks for in details: ``{"ground": "striped", "objects": [{"class": "circle", "shade": "pale"}]}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rl.data.shapes.looks import GROUNDS, SHADES
from rl.data.shapes.sprites import CLASSES


@dataclass(frozen=True)
class AskedObject:
    label: str
    shade: str
    outlined: bool


@dataclass(frozen=True)
class AskedDetails:
    ground: str
    objects: tuple[AskedObject, ...]


def parse_details(metadata: Mapping[str, object]) -> AskedDetails | None:
    """``None`` without ``details``. What an entry leaves out is as in a caption without details: plain ground, normal
    shade, no outline. Raises ``ValueError`` naming the entry that is malformed."""
    given = metadata.get("details")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError(f"details is {given!r}: it must be a mapping with 'ground' and 'objects'")
    ground = _one_of(given.get("ground", GROUNDS[0]), GROUNDS, "details.ground")
    objects = given.get("objects") or []
    if not isinstance(objects, (list, tuple)) or not all(isinstance(one, Mapping) for one in objects):
        raise ValueError(f"details.objects is {objects!r}: it must be a list of mappings such as {{'class': 'circle'}}")
    asked = AskedDetails(ground, tuple(_object(one, f"details.objects[{index}]") for index, one in enumerate(objects)))
    if ground == GROUNDS[0] and all(one.shade == SHADES[0] and not one.outlined for one in asked.objects):
        raise ValueError("details asks for none: neither a ground, nor a shade, nor an outline")
    return asked


def metadata_problem(metadata: Mapping[str, object]) -> str | None:
    """Which entry is malformed; ``None`` if none is."""
    try:
        parse_details(metadata)
    except ValueError as error:
        return str(error)
    return None


def _object(entry: Mapping[str, object], where: str) -> AskedObject:
    outlined = entry.get("outlined", False)
    if not isinstance(outlined, bool):
        raise ValueError(f"{where}.outlined is {outlined!r}: it must be true or false")
    label = _one_of(entry.get("class"), CLASSES, f"{where}.class")
    return AskedObject(label, _one_of(entry.get("shade", SHADES[0]), SHADES, f"{where}.shade"), outlined)


def _one_of(value: object, known: tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{where} is {value!r}: it must be one of {', '.join(known)}")
    return value
