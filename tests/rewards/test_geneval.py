from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rewards.geneval.protocol import Verdict, accepted, judge, parse, relations
from rewards.geneval.reward import GenEval
from rl.types import Detection, Prompt, Sample, UserError
from tests.rewards.geneval_oracle import random_case, strict

Box = tuple[float, float, float, float]


def see(label: str, color: str | None = "red", box: Box = (0, 0, 10, 10), score: float = 0.99) -> Detection:
    return Detection(label, score, box, color=color)


def verdict(metadata: dict[str, Any], *found: Detection) -> Verdict:
    requirements = parse(metadata)
    assert requirements is not None
    return judge(requirements, found)


COUNTING = {"tag": "counting", "include": [{"class": "star", "count": 2}], "exclude": [{"class": "star", "count": 3}]}
COLOR = {"tag": "colors", "include": [{"class": "star", "count": 1, "color": "red"}]}
LEFT = {
    "tag": "position",
    "include": [{"class": "star", "count": 1}, {"class": "ring", "count": 1, "position": ["left of", 0]}],
}
ATTRIBUTES = {
    "tag": "color_attr",
    "include": [{"class": "star", "count": 1, "color": "red"}, {"class": "ring", "count": 1, "color": "blue"}],
}


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


def test_zero_disagreement_with_an_independent_oracle() -> None:
    rng = random.Random(2310_11513)
    verdicts: Counter[tuple[str, bool]] = Counter()
    for case in range(6000):
        metadata, found = random_case(rng)
        detections = [
            Detection(d["class"], d["score"], (d["x0"], d["y0"], d["x1"], d["y1"]), color=d["color"]) for d in found
        ]
        ours = verdict(metadata, *detections)
        assert ours.strict == strict(metadata, found), (case, metadata, found, ours.reason)
        assert (ours.graded == 1.0) == ours.strict
        assert 0.0 <= ours.graded <= 1.0
        assert (ours.reason == "") == ours.strict
        verdicts[metadata["tag"], ours.strict] += 1
    assert min(verdicts.values()) >= 50 and len(verdicts) == 14, verdicts  # the agreement is on both verdicts


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


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ([{"count": 1}], "include[0].class is None: it must be of type str"),
        ([{"class": "star", "count": "two"}], "include[0].count is 'two': it must be of type int"),
        ([{"class": "star", "count": 0}], "include[0].count is 0: it must be 1 or more"),
        (
            [{"class": "star", "count": 1, "position": ["beside", 0]}],
            "include[0].position is ['beside', 0]: it must be ['left of' | 'right of' | 'above' | 'below', "
            "the number of an earlier include entry]",
        ),
    ],
)
def test_malformed_metadata_is_a_failure_that_names_the_entry(include: list[dict[str, Any]], message: str) -> None:
    score = GenEval(detector=f"{__name__}:Fixed")([sample({"include": include})])[0]
    assert (score.value, score.failure) == (None, f"prompt 'p': {message}")


class Fixed:
    """A detector that always sees the same."""

    def __init__(self, color: str | None = "red", loses: int = 0) -> None:
        self.color, self.loses = color, loses

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[see("star", self.color)] for _ in pictures[self.loses :]]


class Blind:
    pass


def sample(metadata: dict[str, Any]) -> Sample:
    return Sample("s", "g", Prompt("p", "a star", metadata), np.zeros((8, 8, 3), np.uint8))


def test_the_reward_scores_what_applies() -> None:
    samples = [sample(m) for m in (COLOR, {"tag": "ocr", "text": "CAT"}, ATTRIBUTES, COUNTING)]
    strict_scores = GenEval(detector=f"{__name__}:Fixed")(samples)
    assert [score.value for score in strict_scores] == [1.0, None, 0.0, 0.0]
    assert not any(score.failed for score in strict_scores)
    graded_scores = GenEval(detector=f"{__name__}:Fixed", grading="graded")(samples)
    assert [score.value for score in graded_scores] == [1.0, None, 0.5, 0.5]
    details = strict_scores[3].details
    assert (details["strict"], details["graded"], details["reason"]) == (False, 0.5, "expected star>=2, found 1")
    assert [s.passed for s in graded_scores] == [1.0, None, 0.0, 0.0]
    assert [(check["kind"], check["value"]) for check in details["checks"]] == [("count", 0.5), ("exclude", 1.0)]


def test_a_detector_without_colors_fails_the_samples_that_need_them() -> None:
    scores = GenEval(detector=f"{__name__}:Fixed", detector_options={"color": None})([sample(COLOR), sample(COUNTING)])
    assert scores[0].failure == "the prompt asks for a red star, but the detector reports no colours"
    assert scores[1].value == 0.0


def test_a_detector_that_loses_a_picture_is_caught() -> None:
    reward = GenEval(detector=f"{__name__}:Fixed", detector_options={"loses": 1})
    with pytest.raises(RuntimeError, match="the detector answered 1 lists for 2 pictures"):
        reward([sample(COLOR), sample(COLOR)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grading": "soft"}, "geneval.options.grading is 'soft': it must be 'strict' or 'graded'"),
        (
            {"detector": f"{__name__}:Blind"},
            f"geneval.options.detector: '{__name__}:Blind' builds a Blind without a `detect(pictures)` method; add it",
        ),
        (
            {"detector": f"{__name__}:Fixed", "detector_options": {"colour": "red"}},
            f"geneval.options.detector_options.colour: '{__name__}:Fixed' takes no such option",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        GenEval(**options)
    assert message in str(caught.value)
