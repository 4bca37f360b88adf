"""The rules of GenEval (arXiv 2310.11513): detections and a prompt's requirements in, a verdict with reasons out.

Strict is the official verdict. Per ``include`` clause: at least ``count`` objects of the class, the best
``count`` by score are meant from here on; all of them of the ``color``; every one in the ``position`` relation to
every object of the target clause, which itself must hold. Per ``exclude`` clause: fewer than ``count`` objects.

Graded is a number in [0, 1] for training, 1 exactly if strict holds: the mean over count, colour and position
checks of their satisfied fraction, times ``1 - excess / (count - 1)`` for each exclude clause. For a counting
prompt (include n, exclude n + 1) that is the literature's ``1 - |n - found| / n``, clamped at 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from rewards.library.geneval.contract import Detection

SCORE_THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9  # for prompts tagged "counting"
MAX_OBJECTS = 16  # per class
POSITION_MARGIN = 0.1  # of the two objects' summed size, taken off each centre distance

T = TypeVar("T")


@dataclass(frozen=True)
class Include:
    """At least ``count`` objects ``label``, of a colour, in a relation to the objects of clause ``target``."""

    label: str
    count: int
    color: str | None = None
    relation: str | None = None
    target: int | None = None


@dataclass(frozen=True)
class Exclude:
    """Fewer than ``count`` objects ``label``."""

    label: str
    count: int


@dataclass(frozen=True)
class Requirements:
    """What a prompt asks for; ``threshold`` is the detection score an object needs."""

    include: tuple[Include, ...]
    exclude: tuple[Exclude, ...] = ()
    threshold: float = SCORE_THRESHOLD

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class a clause names, once, in order: what an open-vocabulary detector looks for."""
        included, excluded = (clause.label for clause in self.include), (clause.label for clause in self.exclude)
        return tuple(dict.fromkeys((*included, *excluded)))


@dataclass(frozen=True)
class RuleOutcome:
    """One rule applied: ``value`` is the satisfied fraction, ``reason`` says what is wrong (empty if ``holds``)."""

    kind: Literal["count", "color", "position", "exclude"]
    label: str
    holds: bool
    value: float
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The picture's result: the official one and the graded one, and the checks they come from."""

    strict: bool
    graded: float
    checks: tuple[RuleOutcome, ...]

    @property
    def reason(self) -> str:
        """Why strict fails, one clause after the other; empty if it holds."""
        return "; ".join(check.reason for check in self.checks if not check.holds)


def parse(
    metadata: Mapping[str, object], threshold: float = SCORE_THRESHOLD, counting_threshold: float = COUNTING_THRESHOLD
) -> Requirements | None:
    """GenEval's own metadata -> ``Requirements``, ``None`` if there is no ``include``.

    ``counting_threshold`` is for prompts tagged "counting", ``threshold`` for all others.
    Raises ``ValueError`` naming the entry that is malformed.
    """
    if not metadata.get("include"):
        return None
    include = tuple(_parse_include(i, entry) for i, entry in enumerate(_entries(metadata, "include")))
    exclude = tuple(
        Exclude(_get(entry, "class", str, f"exclude[{i}]"), _count(entry, f"exclude[{i}]"))
        for i, entry in enumerate(_entries(metadata, "exclude"))
    )
    return Requirements(include, exclude, counting_threshold if metadata.get("tag") == "counting" else threshold)


def metadata_problem(metadata: Mapping[str, object]) -> str | None:
    """Which entry is malformed; ``None`` if none is."""
    try:
        parse(metadata)
    except ValueError as error:
        return str(error)
    return None


def _entries(metadata: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    """The clauses under ``key``; none if it is null, as tables write what is missing."""
    entries = metadata.get(key)
    if entries is None:
        return []
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{key} is {entries!r}: it must be a list of mappings such as {{'class': 'dog', 'count': 1}}")
    return list(entries)


def _parse_include(index: int, entry: Mapping[str, object]) -> Include:
    where = f"include[{index}]"
    label, count = _get(entry, "class", str, where), _count(entry, where)
    color = _get(entry, "color", str, where) if entry.get("color") is not None else None
    if entry.get("position") is None:
        return Include(label, count, color)
    match entry["position"]:
        case [("left of" | "right of" | "above" | "below") as relation, int(target)] if 0 <= target < index:
            return Include(label, count, color, relation, target)
    raise ValueError(
        f"{where}.position is {entry['position']!r}: it must be ['left of' | 'right of' | 'above' | 'below', "
        f"the number of an earlier include entry]"
    )


def _count(entry: Mapping[str, object], where: str) -> int:
    count = _get(entry, "count", int, where)
    if count < 1:
        raise ValueError(f"{where}.count is {count}: it must be 1 or more")
    return count


def _get(entry: Mapping[str, object], key: str, kind: type[T], where: str) -> T:
    value = entry.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"{where}.{key} is {value!r}: it must be of type {kind.__name__}")
    return value


def judge(requirements: Requirements, detections: Sequence[Detection]) -> Verdict:
    """Apply all rules to one picture's detections. Raises ``ValueError`` if a colour is asked for and not given."""
    objects = accepted(detections, requirements.threshold)
    checks: list[RuleOutcome] = []
    groups: list[tuple[Sequence[Detection], bool]] = []  # per include clause: its objects, and whether it holds
    for clause in requirements.include:
        found = objects.get(clause.label, ())[: clause.count]
        own = [_check_count(clause, found)]
        if clause.color is not None:
            own.append(_check_color(clause, found))
        if clause.relation is not None and clause.target is not None:
            target = requirements.include[clause.target]
            own.append(_check_position(clause, found, target, *groups[clause.target]))
        groups.append((found, all(check.holds for check in own)))
        checks.extend(own)
    graded = math.fsum(check.value for check in checks) / len(checks)
    for unwanted in requirements.exclude:
        checks.append(_check_exclude(unwanted, len(objects.get(unwanted.label, ()))))
        graded *= checks[-1].value
    return Verdict(all(check.holds for check in checks), graded, tuple(checks))


def accepted(detections: Sequence[Detection], threshold: float) -> dict[str, list[Detection]]:
    """Per class the detections above ``threshold``, best first, at most 16; no suppression of overlaps."""
    by_label: dict[str, list[Detection]] = defaultdict(list)
    for detection in sorted(detections, key=lambda detection: -detection.score):
        if detection.score > threshold and len(by_label[detection.label]) < MAX_OBJECTS:
            by_label[detection.label].append(detection)
    return dict(by_label)


def _check_count(clause: Include, found: Sequence[Detection]) -> RuleOutcome:
    enough = len(found) >= clause.count
    reason = "" if enough else f"expected {clause.label}>={clause.count}, found {len(found)}"
    return RuleOutcome("count", clause.label, enough, len(found) / clause.count, reason)


def _check_color(clause: Include, found: Sequence[Detection]) -> RuleOutcome:
    colors = [detection.color for detection in found]
    if None in colors:
        raise ValueError(
            f"the prompt asks for a {clause.color} {clause.label}, and nobody named the colour of one: "
            f"set the option `colors` to clip or pixels"
        )
    right = colors.count(clause.color)
    holds = right == clause.count
    reason = "" if holds else f"expected {clause.color} {clause.label}>={clause.count}, found {right} of {colors}"
    return RuleOutcome("color", clause.label, holds, right / clause.count, reason)


def _check_position(
    clause: Include, found: Sequence[Detection], target: Include, anchors: Sequence[Detection], target_holds: bool
) -> RuleOutcome:
    # The fraction counts pairs; with a target clause that fails (say, in its colour) strict cannot hold anyway.
    pairs = sum(clause.relation in relations(a.box, b.box) for a in found for b in anchors)
    needed = clause.count * target.count
    holds = target_holds and pairs == needed
    reason = ""
    if not target_holds:
        reason = f"no target for {clause.label} to be {clause.relation}"
    elif not holds:
        reason = f"expected {clause.label} {clause.relation} {target.label}: true for {pairs} of {needed} pairs"
    return RuleOutcome("position", clause.label, holds, pairs / needed, reason)


def _check_exclude(clause: Exclude, found: int) -> RuleOutcome:
    excess = max(0, found - (clause.count - 1))
    reason = f"expected {clause.label}<{clause.count}, found {found}" if excess else ""
    return RuleOutcome("exclude", clause.label, not excess, max(0.0, 1 - excess / max(1, clause.count - 1)), reason)


def relations(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> set[str]:
    """Where box ``a`` is as seen from ``b``: none, one or two of left of, right of, above, below (y down)."""
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    norm = math.hypot(dx, dy)
    if norm == 0:
        return set()
    dx = _shrunk(dx, abs(a[2] - a[0]) + abs(b[2] - b[0])) / norm
    dy = _shrunk(dy, abs(a[3] - a[1]) + abs(b[3] - b[1])) / norm
    holds = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {relation for relation, true in holds.items() if true}


def _shrunk(distance: float, sizes: float) -> float:
    return math.copysign(max(abs(distance) - POSITION_MARGIN * sizes, 0.0), distance)
