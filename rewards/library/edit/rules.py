"""Two pictures' objects and an instruction in, a verdict with reasons out.

*Executed*: every clause holds, and where something may change there is nothing that neither stood there before nor was
asked for. *Kept*: of the objects that must stay, the Jaccard index |before and after| / |before or after|, so that a
lost, a changed and an added one all count; 1 if there are none. Objects, not pixels: empty ground is no merit. Where
details count, the ground is one more thing that must stay, unless another is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.library.edit.asked import AskedEdit, Counted, EditClause, Empty, Grounded, Holds, More, Reads
from rewards.library.edit.objects import PlacedObject, matched
from rewards.library.geneval.boxes import Box, overlap
from rewards.library.geneval.rules import relations

_LETTER = "letter "
Objects = Sequence[PlacedObject]


@dataclass(frozen=True)
class ClauseVerdict:
    """``reason``: what is wrong, nothing if it ``holds``. ``claimed``: the objects that it asked for."""

    asked: str
    holds: bool
    reason: str = ""
    claimed: tuple[PlacedObject, ...] = ()


@dataclass(frozen=True)
class EditVerdict:
    executed: bool
    kept: float
    clauses: tuple[ClauseVerdict, ...]
    foreign: tuple[PlacedObject, ...]
    """Where something may change: objects that nobody asked for."""
    lost: tuple[PlacedObject, ...]
    """Of those that must stay."""
    added: tuple[PlacedObject, ...]
    """Where nothing may change."""
    copied: bool
    """Every object is where it was, and there is none besides."""
    redrawn: bool
    """Of at least one object that must stay, none did."""
    ground: str = ""
    """What became of the ground, where it had to stay and did not."""

    @property
    def reason(self) -> str:
        """Why it is not perfect, one thing after the other."""
        parts = [one.reason for one in self.clauses if not one.holds]
        parts += [f"the ground became {self.ground}"] if self.ground else []
        for objects, what in ((self.foreign, "nobody asked for"), (self.lost, "lost"), (self.added, "added")):
            parts += [f"{what}: {', '.join(map(str, objects))}"] if objects else []
        return "; ".join(parts)


@dataclass(frozen=True)
class _Scene:
    before: Objects
    after: Objects
    pairs: Sequence[tuple[PlacedObject, PlacedObject]]
    least_overlap: float
    ground: str | None = None
    """Of the answer, where details count."""

    def new(self) -> list[PlacedObject]:
        old = {id(after) for _, after in self.pairs}
        return [one for one in self.after if id(one) not in old]


def judge_edit(
    asked: AskedEdit,
    before: Objects,
    after: Objects,
    least_overlap: float,
    grounds: tuple[str, str] | None = None,
) -> EditVerdict:
    """``before``, ``after``: objects of the picture that was to be changed, and of the answer; ``grounds``: of the two,
    where details count."""
    sure_before = [one for one in before if one.sure]
    pairs = matched(sure_before, after, least_overlap)
    scene = _Scene(sure_before, after, pairs, least_overlap, None if grounds is None else grounds[1])
    clauses = tuple(_judged(clause, scene) for clause in asked.clauses)
    claimed = {id(one) for clause in clauses for one in clause.claimed}
    foreign = tuple(one for one in scene.new() if _may_change(one, asked) and id(one) not in claimed)
    stays = [one for one in sure_before if not _may_change(one, asked)]
    there = [one for one in after if not _may_change(one, asked) and not (id(one) in claimed and _anywhere(asked))]
    same = matched(stays, there, least_overlap)
    of_ground = grounds is not None and asked.ground is None
    ground_stays = grounds is None or grounds[0] == grounds[1]
    together = len(stays) + len(there) - len(same) + of_ground
    kept_before, kept_after = {id(one) for one, _ in same}, {id(one) for _, one in same}
    return EditVerdict(
        executed=all(clause.holds for clause in clauses) and not foreign,
        kept=(len(same) + (of_ground and ground_stays)) / together if together else 1.0,
        clauses=clauses,
        foreign=foreign,
        lost=tuple(one for one in stays if id(one) not in kept_before),
        added=tuple(one for one in there if id(one) not in kept_after),
        copied=len(pairs) == len(sure_before) == len(after) and ground_stays,
        redrawn=bool(stays) and not same,
        ground="" if grounds is None or ground_stays or not of_ground else grounds[1],
    )


def _may_change(one: PlacedObject, asked: AskedEdit) -> bool:
    return one.label in asked.classes or any(one.is_in(region) for region in asked.regions)


def _anywhere(asked: AskedEdit) -> bool:
    """Without regions, what was asked for is nothing added, wherever it stands."""
    return not asked.regions


def _judged(clause: EditClause, scene: _Scene) -> ClauseVerdict:
    match clause:
        case Holds():
            return _holds(clause, scene)
        case Empty():
            return _empty(clause, scene)
        case Counted():
            return _counted(clause, scene)
        case More():
            return _more(clause, scene)
        case Reads():
            return _reads(clause, scene)
        case Grounded():
            return _grounded(clause, scene)


def _holds(clause: Holds, scene: _Scene) -> ClauseVerdict:
    drawn = {True: "outlined", False: "not outlined", None: None}[clause.outlined]
    name = " ".join(word for word in (drawn, clause.shade, clause.color, clause.label) if word)
    where = "" if clause.region is None else f" in {_shown(clause.region)}"
    asked = f"one {name}{where}" if clause.region else f"a {name}"
    inside = [one for one in scene.after if clause.region is None or one.is_in(clause.region)]
    right = [one for one in inside if one.is_a(clause.label, clause.color)]
    if clause.box is not None:
        right = [one for one in right if overlap(one.box, clause.box) >= scene.least_overlap]
    right = [one for one in right if clause.shade in (None, one.shade) and clause.outlined in (None, one.outlined)]
    if right and (clause.region is None or len(inside) == 1):
        return ClauseVerdict(asked, True, claimed=tuple(right))
    return ClauseVerdict(asked, False, f"expected {asked}, found {_listed(inside)}")


def _empty(clause: Empty, scene: _Scene) -> ClauseVerdict:
    asked = f"nothing in {_shown(clause.region)}"
    inside = [one for one in scene.after if one.is_in(clause.region)]
    reason = f"expected {asked}, found {_listed(inside)}" if inside else ""
    return ClauseVerdict(asked, not inside, reason)


def _counted(clause: Counted, scene: _Scene) -> ClauseVerdict:
    asked = f"{clause.number} of class {clause.label}"
    was = [one for one in scene.before if one.is_a(clause.label, None)]
    now = [one for one in scene.after if one.is_a(clause.label, None)]
    if len(now) != clause.number:
        return ClauseVerdict(asked, False, f"expected {asked}, found {len(now)}", tuple(now))
    stayed = len(matched(was, now, scene.least_overlap))
    wanted = min(len(was), len(now))
    if stayed < wanted:
        return ClauseVerdict(
            asked, False, f"expected {asked}, {wanted} as before, found {stayed} as before", tuple(now)
        )
    return ClauseVerdict(asked, True, claimed=tuple(now))


def _more(clause: More, scene: _Scene) -> ClauseVerdict:
    name = " ".join(word for word in (clause.color, clause.label) if word)
    place = "" if clause.relation is None else f" {clause.relation} the {clause.anchor}"
    asked = f"one more {name}{place}"
    was, now = (
        [one for one in objects if one.is_a(clause.label, clause.color)] for objects in (scene.before, scene.after)
    )
    new = [one for one in scene.new() if one.is_a(clause.label, clause.color)]
    if len(now) != len(was) + 1 or len(new) != 1:
        return ClauseVerdict(asked, False, f"expected {asked}, found {len(now)} where {len(was)} were", tuple(new))
    if clause.relation is not None:
        anchors = [one for one in scene.before if one.label == clause.anchor]
        if not anchors or not all(clause.relation in relations(new[0].box, one.box) for one in anchors):
            return ClauseVerdict(asked, False, f"expected {asked}, found {new[0]}", tuple(new))
    return ClauseVerdict(asked, True, claimed=tuple(new))


def _reads(clause: Reads, scene: _Scene) -> ClauseVerdict:
    asked = f"{clause.text!r} in {_shown(clause.region)}"
    inside = sorted((one for one in scene.after if one.is_in(clause.region)), key=lambda one: one.centre[0])
    letters = [one.label.removeprefix(_LETTER) for one in inside if one.sure and one.label.startswith(_LETTER)]
    begins = clause.starts is None or (bool(inside) and inside[0].is_in(clause.starts))
    if len(letters) == len(inside) and "".join(letters) == clause.text and begins:
        return ClauseVerdict(asked, True, claimed=tuple(inside))
    return ClauseVerdict(asked, False, f"expected {asked}, found {_listed(inside)}")


def _grounded(clause: Grounded, scene: _Scene) -> ClauseVerdict:
    asked, holds = f"a {clause.ground} ground", scene.ground == clause.ground
    return ClauseVerdict(asked, holds, "" if holds else f"expected {asked}, found {scene.ground}")


def _shown(box: Box) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in box) + "]"


def _listed(objects: Objects) -> str:
    return ", ".join(map(str, objects)) or "nothing"
