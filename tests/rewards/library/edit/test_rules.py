"""Clauses, foreign objects and what is kept, on objects given by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.library.edit.asked import metadata_problem, parse_edit
from rewards.library.edit.objects import PlacedObject, matched, placed
from rewards.library.edit.rules import EditVerdict, judge_edit
from rewards.library.geneval.contract import Detection

_LEFT, _RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]


def _at(
    label: str, color: str | None, x: float, y: float = 0.5, *, side: float = 0.1, sure: bool = True
) -> PlacedObject:
    return PlacedObject(label, color, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), sure)


CAT, DOG, SUN = _at("cat", "black", 0.2), _at("dog", "brown", 0.7), _at("sun", "yellow", 0.9, 0.1)


def _judged(
    edit: dict[str, Any], *after: PlacedObject, before: tuple[PlacedObject, ...] = (CAT, DOG, SUN)
) -> EditVerdict:
    asked = parse_edit({"edit": edit})
    assert asked is not None
    return judge_edit(asked, before, after, 0.7)


RECOLOUR = {"clauses": [{"holds": "cat", "color": "blue", "in": _LEFT}], "editable": [_LEFT]}


def test_an_exact_edit_a_copy_and_a_redraw() -> None:
    done = _judged(RECOLOUR, _at("cat", "blue", 0.2), DOG, SUN)
    assert (done.executed, done.kept, done.copied, done.redrawn, done.reason) == (True, 1.0, False, False, "")
    copy = _judged(RECOLOUR, CAT, DOG, SUN)
    assert (copy.executed, copy.kept, copy.copied, copy.redrawn) == (False, 1.0, True, False)
    assert copy.reason == "expected one blue cat in [0, 0, 0.5, 1], found black cat at 0.20, 0.50"
    redraw = _judged(RECOLOUR, _at("cat", "blue", 0.3))
    assert (redraw.executed, redraw.kept, redraw.copied, redraw.redrawn) == (True, 0.0, False, True)
    assert redraw.reason == "lost: brown dog at 0.70, 0.50, yellow sun at 0.90, 0.10"


def test_kept_counts_what_is_lost_what_is_changed_and_what_is_added() -> None:
    cat = _at("cat", "blue", 0.2)
    assert _judged(RECOLOUR, cat, DOG).kept == 1 / 2
    assert _judged(RECOLOUR, cat, DOG, _at("sun", "red", 0.9, 0.1)).kept == 1 / 3
    assert _judged(RECOLOUR, cat, DOG, SUN, _at("tree", "green", 0.6, 0.9)).kept == 2 / 3
    assert _judged(RECOLOUR, cat, DOG, _at("sun", "yellow", 0.9, 0.1, side=0.06)).kept == 1 / 3  # another size
    assert _judged(RECOLOUR, cat, before=(CAT,)).kept == 1.0  # nothing had to stay


def test_what_the_detector_is_not_sure_of_counts_as_changed() -> None:
    unsure = _at("dog", "brown", 0.7, sure=False)
    assert _judged(RECOLOUR, _at("cat", "blue", 0.2), unsure, SUN).kept == 1 / 3
    assert not _judged(RECOLOUR, _at("cat", "blue", 0.2, sure=False), DOG, SUN).executed
    found = placed([Detection("cat", 0.4, (10, 0, 20, 10)), Detection("dog", 0.2, (0, 0, 1, 1))], 50, 100, 0.5, 0.3)
    assert [(one.label, one.sure, one.box) for one in found] == [("cat", False, (0.1, 0.0, 0.2, 0.2))]


def test_nothing_may_come_where_nobody_asked_for_it() -> None:
    verdict = _judged(RECOLOUR, _at("cat", "blue", 0.2), _at("hat", None, 0.3, 0.1), DOG, SUN)
    assert not verdict.executed and "found blue cat at 0.20, 0.50, hat at 0.30, 0.10" in verdict.reason
    add = {"clauses": [{"more": "hat"}], "editable": [_LEFT]}
    new = _at("hat", "red", 0.3, 0.1)
    assert _judged(add, CAT, DOG, SUN, new).executed
    verdict = _judged(add, CAT, DOG, SUN, new, _at("tree", "green", 0.4, 0.9))
    assert not verdict.executed and verdict.reason == "nobody asked for: green tree at 0.40, 0.90"


def test_gone_and_counted() -> None:
    remove = {"clauses": [{"empty": True, "in": _LEFT}, {"count": "cat", "number": 0}], "editable": [_LEFT]}
    assert _judged(remove, DOG, SUN).executed
    moved = _judged(remove, _at("cat", "black", 0.6), DOG, SUN)
    assert not moved.executed and [one.holds for one in moved.clauses] == [True, False]
    three = {"clauses": [{"count": "cat", "number": 3}], "editable": ["cat"]}
    more = (_at("cat", "red", 0.4), _at("cat", "red", 0.5))
    assert _judged(three, CAT, *more, DOG, SUN).executed
    others = _judged(three, _at("cat", "black", 0.3), *more, DOG, SUN)
    assert others.reason.startswith("expected 3 of class cat, 1 as before, found 0 as before")
    assert _judged(
        {**three, "clauses": [{"count": "cat", "number": 1}]}, more[0], DOG, SUN, before=(CAT, more[0], DOG, SUN)
    ).executed


def test_one_more_stands_where_it_was_asked_for() -> None:
    asked = {"clauses": [{"more": "cat", "color": "blue", "relation": ["left of", "dog"]}], "editable": ["cat"]}
    assert _judged(asked, CAT, DOG, SUN, _at("cat", "blue", 0.4)).executed
    wrong = _judged(asked, CAT, DOG, SUN, _at("cat", "blue", 0.95))
    assert wrong.reason.startswith("expected one more blue cat left of the dog, found blue cat at 0.95, 0.50")
    two = _judged(asked, CAT, DOG, SUN, _at("cat", "blue", 0.3), _at("cat", "blue", 0.4))
    assert "found 2 where 0 were" in two.reason
    assert not _judged(asked, CAT, SUN, _at("cat", "blue", 0.4), before=(CAT, SUN)).executed


def test_words_are_read_from_left_to_right() -> None:
    asked = {"clauses": [{"reads": "HI", "in": _LEFT, "starts": [0.0, 0.0, 0.2, 1.0]}], "editable": [_LEFT]}
    h, i = _at("letter H", "black", 0.1), _at("letter I", "black", 0.3)
    assert _judged(asked, i, h, before=()).executed
    assert not _judged(asked, _at("letter I", "black", 0.1), _at("letter H", "black", 0.3), before=()).executed
    assert not _judged(asked, h, i, _at("sun", "red", 0.4), before=()).executed
    assert not _judged(asked, _at("letter H", "black", 0.25), i, before=()).executed
    assert not _judged(asked, before=()).executed


def test_no_clauses_ask_for_nothing() -> None:
    keep: dict[str, Any] = {"clauses": [], "editable": []}
    assert (_judged(keep, CAT, DOG, SUN).executed, _judged(keep, CAT, DOG, SUN).kept) == (True, 1.0)
    assert _judged(keep, DOG, SUN).kept == 2 / 3


def test_without_places_the_classes_that_are_named_may_change() -> None:
    asked = {"clauses": [{"holds": "cat", "color": "blue"}]}
    assert _judged(asked, _at("cat", "blue", 0.3, 0.2, side=0.3), DOG, SUN).executed
    assert _judged(asked, _at("cat", "blue", 0.3), DOG).kept == 1 / 2


def test_an_object_is_in_one_pair_alone_and_colours_count_where_both_are_named() -> None:
    near = _at("cat", "black", 0.21)
    assert matched([CAT], [CAT, near], 0.5) == [(CAT, CAT)]
    assert matched([CAT], [_at("cat", None, 0.2)], 0.5)
    assert not matched([CAT], [_at("cat", "red", 0.2)], 0.5)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("blue", "edit is 'blue': it must be a mapping with 'clauses' and 'editable'"),
        ({"clause": []}, "edit.clause is none of its keys: clauses, editable, keep"),
        (
            {"clauses": [{"has": "cat"}]},
            "edit.clauses[0] must hold one of holds, empty, count, more, reads, ground, it holds has",
        ),
        ({"clauses": [{"holds": "cat", "at": [0, 0, 1, 1]}]}, "edit.clauses[0].at is no key of a clause with 'holds'"),
        ({"clauses": [{"empty": True}]}, "edit.clauses[0].in is None: it must be a box"),
        ({"clauses": [{"count": "cat", "number": True}]}, "number is True: it must be a whole number of at least 0"),
        (
            {"clauses": [{"more": "cat", "relation": ["near", "dog"]}]},
            "must be [left of | right of | above | below, a class]",
        ),
        ({"clauses": [], "editable": [[0, 0, 64, 64]]}, "edit.editable[0] is [0, 0, 64, 64]: it must be a box"),
    ],
)
def test_malformed_metadata_is_named(edit: object, words: str) -> None:
    problem = metadata_problem({"edit": edit})
    assert problem is not None and words in problem


def test_no_edit_is_no_problem() -> None:
    assert parse_edit({}) is None and metadata_problem({"edit": RECOLOUR}) is None
