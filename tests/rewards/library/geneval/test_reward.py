from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rewards.golden import probe
from rewards.library.geneval.colors import name_colors
from rewards.library.geneval.contract import Detection
from rewards.library.geneval.reward import GenEval
from rewards.library.geneval.rules import Verdict, accepted, judge, parse, relations
from rewards.load import load_reward
from rl.types import Prompt, Sample, UserError
from tests.rewards.library.geneval.geneval_oracle import TASKS, Found, random_case, strict

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
        self.colors = () if color is None else ("red", "blue")

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[see("star", self.color)] for _ in pictures[self.loses :]]


class Told:
    """An open-vocabulary detector that sees whatever it is told to look for, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def detect_labels(self, pictures: Sequence[np.ndarray], labels: Sequence[Sequence[str]]) -> list[list[Detection]]:
        self.asked += [list(row) for row in labels]
        return [[see(label, color=None) for label in row] for row in labels]


class Knows(Fixed):
    classes = frozenset({"star", "computer mouse"})


class Blue:
    """A colour classifier that always says blue, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, str]] = []

    def classify(self, pictures: Sequence[np.ndarray], detections: Sequence[Detection]) -> list[str]:
        self.shown += [(int(p[0, 0, 0]), d.label) for p, d in zip(pictures, detections, strict=True)]
        return ["blue"] * len(detections)


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
    unseen = {"tag": "colors", "include": [{"class": "ring", "count": 1, "color": "red"}]}
    reward = GenEval(detector=f"{__name__}:Fixed", detector_options={"color": None})
    scores = reward([sample(COLOR), sample(COUNTING), sample(unseen)])
    assert [scores[0].failure, scores[2].failure] == [
        f"prompt 'p': the prompt asks for a red {name}, but the detector names no colours: set the option `colors` to "
        "clip or pixels (a detector that does has an attribute `colors`)"
        for name in ("star", "ring")  # also where none is seen
    ]
    assert scores[1].value == 0.0


@pytest.mark.parametrize(
    ("color", "hint"), [("Red", ", did you mean 'red'?"), ("blu", ", did you mean 'blue'?"), ("gold", "")]
)
@pytest.mark.parametrize("colors", [None, "pixels", f"{__name__}:Blue"])
def test_a_color_that_nobody_ever_says_is_a_failure_and_not_a_zero(color: str, hint: str, colors: str | None) -> None:
    asked = {"tag": "colors", "include": [{"class": "star", "count": 1, "color": color}]}
    score = GenEval(detector=f"{__name__}:Fixed", colors=colors)([sample(asked)])[0]
    if colors == f"{__name__}:Blue":  # it does not say which colours it knows
        assert score.value == 0.0
    else:
        start = f"prompt 'p': no star is ever called {color!r}{hint} (the colours are: red, "
        assert score.value is None
        assert str(score.failure).startswith(start)


def test_a_color_that_the_detector_did_not_name_after_all_is_a_failure() -> None:
    with pytest.raises(ValueError, match="asks for a red star, and nobody named the colour of one: set the option"):
        judge(parse(COLOR), [see("star", None)])  # type: ignore[arg-type]


def test_an_open_vocabulary_detector_is_told_the_classes_of_each_prompt() -> None:
    reward = GenEval(detector=f"{__name__}:Told")
    excluding = {**COUNTING, "include": [{"class": "ring", "count": 1}]}
    scores = reward([sample(m) for m in (LEFT, {"text": "CAT"}, COUNTING, excluding)])
    assert isinstance(reward.detector, Told)
    assert reward.detector.asked == [["star", "ring"], ["star"], ["ring", "star"]]
    assert [score.value for score in scores] == [0.0, None, 0.0, 1.0]  # LEFT: both in one place


def test_a_class_the_detector_cannot_know_is_a_failure_and_not_a_zero() -> None:
    asked = [{"tag": "x", "include": [{"class": name, "count": 1}]} for name in ("star", "ring", "mouse", "starr")]
    scores = GenEval(detector=f"{__name__}:Knows")([sample(m) for m in asked])
    assert [score.value for score in scores] == [1.0, None, None, None]
    assert [score.failure for score in scores[1:]] == [
        "prompt 'p': the detector knows no class 'ring' (it has 2 classes)",
        "prompt 'p': the detector knows no class 'mouse', did you mean 'computer mouse'? (it has 2 classes)",
        "prompt 'p': the detector knows no class 'starr', did you mean 'star'? (it has 2 classes)",
    ]


def test_only_the_best_objects_of_a_class_whose_color_is_asked_for_are_classified() -> None:
    classifier = Blue()
    pictures = [np.full((4, 4, 3), shade, np.uint8) for shade in (1, 2, 3)]
    stars = [see("star", None, score=score) for score in (0.5, 0.9, 0.2)]
    rows = [[*stars, see("ring", None)], [see("star", None)], [see("star", "red"), see("star", None, score=0.5)]]
    wanted = [parse(metadata) for metadata in (COLOR, COUNTING, COLOR)]
    named = name_colors(classifier, pictures, [one for one in wanted if one is not None], rows)
    assert classifier.shown == [(1, "star")]  # the detector's own "red" is believed, COUNTING asks for no colour
    assert [[d.color for d in row] for row in named] == [[None, "blue", None, None], [None], ["red", None]]
    shared = [stars[1]]  # the same object in two pictures is looked at in both
    name_colors(classifier, pictures[:2], [wanted[0], wanted[2]], [shared, shared])  # type: ignore[list-item]
    assert classifier.shown[1:] == [(1, "star"), (2, "star")]
    assert name_colors(classifier, [], [], []) == []


def test_a_classifier_that_loses_count_is_caught() -> None:
    class Short(Blue):
        def classify(self, pictures: Sequence[np.ndarray], detections: Sequence[Detection]) -> list[str]:
            return []

    wanted = parse(COLOR)
    assert wanted is not None
    with pytest.raises(RuntimeError, match="the colour classifier answered 0 names for 1 objects"):
        name_colors(Short(), [np.zeros((4, 4, 3), np.uint8)], [wanted], [[see("star", None)]])


def test_the_reward_asks_the_classifier_and_reports_what_it_found() -> None:
    reward = GenEval(detector=f"{__name__}:Fixed", detector_options={"color": None}, colors=f"{__name__}:Blue")
    red, blue = reward([sample(COLOR), sample({**COLOR, "include": [{"class": "star", "count": 1, "color": "blue"}]})])
    assert (red.value, blue.value) == (0.0, 1.0)
    assert red.details["reason"] == "expected red star>=1, found 0 of ['blue']"
    assert red.details["found"] == {"star": [[0.0, 0.0, 10.0, 10.0, 0.99]]}


def test_thresholds_can_be_set() -> None:
    wanted = parse(COUNTING, 0.1, 0.2), parse(COLOR, 0.1, 0.2)
    assert [one.threshold for one in wanted if one] == [0.2, 0.1]
    reward = GenEval(detector=f"{__name__}:Fixed", threshold=0.995)
    assert reward([sample(COLOR)])[0].details["reason"].startswith("expected star>=1, found 0")


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
            f"geneval.options.detector: '{__name__}:Blind' builds a Blind without a `detect(pictures)` method; add it, "
            "or `detect_labels(pictures, labels)` if it has to be told what to look for",
        ),
        (
            {"detector": f"{__name__}:Fixed", "detector_options": {"colour": "red"}},
            f"geneval.options.detector_options.colour: '{__name__}:Fixed' takes no such option",
        ),
        ({"threshold": 1.5}, "geneval.options.threshold is 1.5: it must be a number from 0 to below 1"),
        ({"counting_threshold": "high"}, "geneval.options.counting_threshold is 'high': it must be a number from 0 to"),
        ({"detector_options": ["x"]}, "geneval.options.detector_options is ['x']: it must be a mapping of options"),
        ({"detector": "mask2fromer"}, "geneval.options.detector.use: there is no 'mask2fromer' among the detectors, "),
        (
            {"detector": f"{__name__}:Fixed", "colors_options": {"mask": False}},
            "geneval.options.colors_options is set but geneval.options.colors is not: add `colors: clip` or "
            "`colors: pixels`",
        ),
        (
            {"detector": f"{__name__}:Fixed", "colors": "clap"},
            "geneval.options.colors.use: there is no 'clap' among the color_classifiers, did you mean 'clip'? "
            "(known: clip, pixels; your own: module:attr)",
        ),
        (
            {"detector": f"{__name__}:Fixed", "colors": f"{__name__}:Blind"},
            f"geneval.options.colors: '{__name__}:Blind' builds a Blind without a `classify(pictures, detections)` "
            "method; add it",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        GenEval(**options)
    assert message in str(caught.value)


class SeesNothing:
    """Knows cats by name and finds none, as with wrong weights."""

    classes = frozenset({"cat"})

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[] for _ in pictures]


def test_a_detector_that_sees_nothing_is_found_before_the_run() -> None:
    with pytest.raises(UserError) as caught:
        load_reward("geneval", "geneval", {"detector": f"{__name__}:SeesNothing"})
    assert str(caught.value).startswith(
        "rewards.geneval: the golden probe found it dead or wrong: on its reference picture 'chelsea' it scores 0, "
        "a working one at least 1;"
    )


def test_the_shapes_detector_has_reference_pictures_of_its_own() -> None:
    for grading in ("strict", "graded"):
        reward = GenEval(grading=grading)
        bounds = [(one.at_least, one.at_most) for one in reward.golden()]
        assert bounds == [(1.0, float("inf")), (-float("inf"), 0.99)]
        probe(reward, reward.golden())


def test_metadata_of_another_shape_fails_its_sample_only_and_nulls_are_absent() -> None:
    good = {"class": "dog", "count": 1}
    for key, wrong in (("include", good), ("include", ["dog"]), ("include", 5), ("exclude", good), ("exclude", [3])):
        with pytest.raises(ValueError, match=f"{key} is .*: it must be a list of mappings such as"):
            parse({"include": [good]} | {key: wrong}, 0.3, 0.9)
    nulls = {"include": [good | {"color": None, "position": None}], "exclude": None}
    assert parse(nulls, 0.3, 0.9) == parse({"include": [good]}, 0.3, 0.9)
