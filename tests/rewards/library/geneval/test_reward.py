from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rewards.golden import probe
from rewards.library.geneval.colors import name_colors
from rewards.library.geneval.contract import Detection
from rewards.library.geneval.reward import GenEval
from rewards.library.geneval.rules import judge, parse
from rewards.load import load_reward
from rl.types import UserError
from tests.rewards.library.geneval.sights import ATTRIBUTES, COLOR, COUNTING, LEFT, sample, see


class Fixed:
    """A detector that always sees the same."""

    def __init__(self, color: str | None = "red", loses: int = 0) -> None:
        self.color, self.loses = color, loses
        self.colors = () if color is None else ("red", "blue")

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[see("star", self.color)] for _ in pictures[self.loses :]]


class Knows(Fixed):
    classes = frozenset({"star", "computer mouse"})


class Blind:
    pass


class SeesNothing:
    """Knows cats by name and finds none, as with wrong weights."""

    classes = frozenset({"cat"})

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[] for _ in pictures]


class Told:
    """An open-vocabulary detector that sees whatever it is told to look for, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def detect_labels(self, pictures: Sequence[np.ndarray], labels: Sequence[Sequence[str]]) -> list[list[Detection]]:
        self.asked += [list(row) for row in labels]
        return [[see(label, color=None) for label in row] for row in labels]


class Blue:
    """A colour classifier that always says blue, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, str]] = []

    def classify(self, pictures: Sequence[np.ndarray], detections: Sequence[Detection]) -> list[str]:
        self.shown += [(int(p[0, 0, 0]), d.label) for p, d in zip(pictures, detections, strict=True)]
        return ["blue"] * len(detections)


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
