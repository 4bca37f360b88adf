from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from rewards.library.geneval.contract import Detection
from rewards.library.geneval.rules import Verdict, accepted, judge, parse, relations
from tests.rewards.library.geneval.geneval_oracle import TASKS, Found, random_case, strict
from tests.rewards.library.geneval.sights import ATTRIBUTES, COLOR, COUNTING, LEFT, see


def verdict(metadata: dict[str, Any], *found: Detection) -> Verdict:
    requirements = parse(metadata)
    assert requirements is not None
    return judge(requirements, found)


@pytest.mark.parametrize(
    ("count", "holds", "graded"),
    [(0, False, 0.0), (1, False, 0.5), (2, True, 1.0), (3, False, 0.5), (4, False, 0.0), (9, False, 0.0)],
)
def test_counting_is_exact_and_graded_by_the_distance(count: int, holds: bool, graded: float) -> None:
    result = verdict(COUNTING, *[see("star")] * count)
    assert (result.strict, result.graded) == (holds, pytest.approx(graded))


def test_counting_asks_for_higher_scores() -> None:
    assert not verdict(COUNTING, see("star", score=0.9), see("star")).strict  # above .9, not at it
    assert verdict(COUNTING, see("star", score=0.91), see("star"), see("star", score=0.9)).strict
    single = {"tag": "single_object", "include": [{"class": "star", "count": 1}]}
    assert verdict(single, see("star", score=0.31)).strict
    assert not verdict(single, see("star", score=0.3)).strict


def test_color_is_that_of_the_best_objects() -> None:
    assert verdict(COLOR, see("star", "red", score=0.9), see("star", "blue", score=0.8)).strict
    result = verdict(COLOR, see("star", "red", score=0.8), see("star", "blue", score=0.9))
    assert (result.strict, result.graded) == (False, 0.5)
    assert result.reason == "expected red star>=1, found 0 of ['blue']"
    assert verdict(COLOR).reason == "expected star>=1, found 0; expected red star>=1, found 0 of []"


def test_position_and_its_margin() -> None:
    star, ring = see("star", box=(40, 20, 50, 30)), see("ring", box=(10, 20, 20, 30))
    assert verdict(LEFT, star, ring).strict
    swapped = verdict(LEFT, see("star", box=ring.box), see("ring", box=star.box))
    assert (swapped.strict, swapped.graded) == (False, pytest.approx(2 / 3))
    assert swapped.reason == "expected ring left of star: true for 0 of 1 pairs"
    # Sizes 10 + 10 take 2 off the distance d: (d - 2) / d > .5 needs d > 4.
    at = {d: relations((d, 0, d + 10, 10), (0, 0, 10, 10)) for d in (0, 3.9, 4.0, 4.1)}
    assert at == {0: set(), 3.9: set(), 4.0: set(), 4.1: {"right of"}}
    assert relations((30, 30, 40, 40), (0, 0, 10, 10)) == {"right of", "below"}  # 28 / 42.4 = .66
    assert relations((0, 0, 10, 10), (30, 8, 40, 18)) == {"left of"}


def test_a_target_of_the_wrong_color_is_no_target() -> None:
    metadata = {"tag": "position", "include": [{**COLOR["include"][0]}, LEFT["include"][1]]}  # type: ignore[index]
    result = verdict(metadata, see("star", "blue", (40, 20, 50, 30)), see("ring", "red", (10, 20, 20, 30)))
    assert not result.strict
    assert result.reason == "expected red star>=1, found 0 of ['blue']; no target for ring to be left of"
    assert result.graded == pytest.approx(3 / 4)  # only the colour of four checks is unsatisfied


def test_two_objects_with_colors() -> None:
    assert verdict(ATTRIBUTES, see("star", "red"), see("ring", "blue")).strict
    assert verdict(ATTRIBUTES, see("star", "blue"), see("ring", "red")).graded == 0.5
    assert verdict(ATTRIBUTES, see("star", "red")).graded == 0.5


def test_an_excluded_class_takes_its_share_of_everything() -> None:
    metadata = {"tag": "x", "include": [{"class": "star", "count": 1}], "exclude": [{"class": "ring", "count": 3}]}
    values = [verdict(metadata, see("star"), *[see("ring")] * n).graded for n in range(6)]
    assert values == [1, 1, 1, 0.5, 0, 0]
    assert verdict(metadata, *[see("ring")] * 3, see("star")).reason == "expected ring<3, found 3"


def test_at_most_sixteen_objects_of_a_class_are_seen() -> None:
    crowd = [see("star", score=0.5 + i / 100) for i in range(20)] + [see("ring")] * 2
    seen = accepted(crowd, 0.3)
    assert {label: len(found) for label, found in seen.items()} == {"star": 16, "ring": 2}
    assert [d.score for d in seen["star"]] == pytest.approx([0.69 - i / 100 for i in range(16)])


def seen(found: list[Found]) -> list[Detection]:
    return [Detection(d["class"], d["score"], (d["x0"], d["y0"], d["x1"], d["y1"]), color=d["color"]) for d in found]


def test_zero_disagreement_with_an_independent_oracle() -> None:
    rng = random.Random(2310_11513)
    verdicts: Counter[tuple[str, bool]] = Counter()
    capped = at_threshold = 0
    for case in range(14_000):
        metadata, found = random_case(rng)
        ours = verdict(metadata, *seen(found))
        assert ours.strict == strict(metadata, found), (case, metadata, found, ours.reason)
        assert (ours.graded == 1.0) == ours.strict
        assert 0.0 <= ours.graded <= 1.0
        assert (ours.reason == "") == ours.strict
        verdicts[metadata["tag"], ours.strict] += 1
        capped += max(Counter(d["class"] for d in found if d["score"] > 0.9).values(), default=0) > 16
        at_threshold += any(d["score"] in (0.3, 0.9) for d in found)
    assert sum(verdicts[task, holds] for task in TASKS for holds in (False, True)) > 10_000
    # The agreement is on both verdicts of every task, and on what lies at the edges.
    assert min(verdicts.values()) >= 150 and len(verdicts) == 14, verdicts
    assert capped >= 50 and at_threshold >= 500, (capped, at_threshold)


def test_the_cap_of_sixteen_hides_the_seventeenth_from_an_exclude_clause() -> None:
    metadata = {"tag": "x", "include": [{"class": "star", "count": 1}], "exclude": [{"class": "ring", "count": 17}]}
    assert verdict(metadata, see("star"), *[see("ring")] * 20).strict
    metadata["exclude"][0]["count"] = 16  # type: ignore[index]
    assert not verdict(metadata, see("star"), *[see("ring")] * 20).strict


def test_graded_rises_or_stays_with_every_right_step_on_random_pictures() -> None:
    """Repaint one object in its clause's colour; take away the worst of too many: no such step costs anything."""
    rng = random.Random(1)
    repainted = removed = rose = 0
    for _ in range(15_000):
        metadata, found = random_case(rng)
        before, limit = verdict(metadata, *seen(found)).graded, 0.9 if metadata["tag"] == "counting" else 0.3
        for clause in metadata["include"]:
            wrong = [
                d for d in found if d["class"] == clause["class"] and d["color"] != clause.get("color", d["color"])
            ]
            if wrong:
                painted = [{**d, "color": clause["color"]} if d is wrong[0] else d for d in found]
                after = verdict(metadata, *seen(painted)).graded
                assert after >= before, (metadata, found)
                repainted, rose = repainted + 1, rose + (after > before)
        for clause in metadata.get("exclude", []):
            objects = [d for d in found if d["class"] == clause["class"] and d["score"] > limit]
            needed = sum(c["count"] for c in metadata["include"] if c["class"] == clause["class"])
            if len(objects) > max(clause["count"] - 1, needed):
                worst = min(objects, key=lambda d: d["score"])
                after = verdict(metadata, *seen([d for d in found if d is not worst])).graded
                assert after >= before, (metadata, found)
                removed, rose = removed + 1, rose + (after > before)
    assert repainted > 500 and removed > 300 and rose > 500, (repainted, removed, rose)


def test_graded_never_falls_when_one_thing_is_put_right() -> None:
    ring_left = (0.0, 20.0, 10.0, 30.0)
    boxes = {True: ring_left, False: (52.0, 20.0, 62.0, 30.0)}
    metadata = {
        "tag": "x",
        "include": [ATTRIBUTES["include"][0], {**ATTRIBUTES["include"][1], "position": ["left of", 0]}],  # type: ignore[dict-item]
        "exclude": [{"class": "square", "count": 3}],
    }

    def graded(star: bool, red: bool, ring: bool, blue: bool, left: bool, few: bool) -> float:
        found = [see("star", "red" if red else "blue", (26, 20, 36, 30))] * star
        found += [see("ring", "blue" if blue else "red", boxes[left])] * ring
        return verdict(metadata, *found, *[see("square")] * (2 if few else 3)).graded

    for state in itertools.product([False, True], repeat=6):
        for i in range(6):
            better = tuple(right or j == i for j, right in enumerate(state))
            assert graded(*better) >= graded(*state), (state, better)
    assert graded(*[True] * 6) == 1.0
