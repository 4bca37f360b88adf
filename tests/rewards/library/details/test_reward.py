"""The details reward: exact on true scenes, forgiving of a decoder's noise, not of details by halves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from rewards.golden import prove
from rewards.library.details.asked import metadata_problem, parse_details
from rewards.library.details.reader import UNCLEAR, read_picture
from rewards.library.details.reward import Details
from rl.data.shapes import world
from rl.data.shapes.looks import LOOKS, Look
from rl.types import Prompt, Sample, Score

_CONTENT = world.Content("look_attr", ("outlined", "circle", "pale", "star", "striped"))
_CIRCLE, _STAR = world.shape_cell("circle", "large", "red"), world.shape_cell("star", "large", "blue")


def _cells(*places: tuple[int, int]) -> NDArray[np.int64]:
    cells = np.zeros(world.CELLS, np.int64)
    for place, cell in places:
        cells[place] = cell
    return cells


def _looks(ground: str = "striped", **figures: str) -> NDArray[np.int64]:
    """Of a circle in cell 5 and a star in cell 10."""
    looks = np.full(world.CELLS, Look.of(ground, "").index)
    looks[5] = Look.of(ground, figures.get("circle", "outlined")).index
    looks[10] = Look.of(ground, figures.get("star", "pale")).index
    return looks


def _score(picture: NDArray[np.uint8], metadata: Mapping[str, object] | None = None) -> Score:
    prompt = Prompt("p", "", _CONTENT.metadata() if metadata is None else metadata)
    return Details()([Sample("s", "g", prompt, picture)])[0]


def _drawn(ground: str = "striped", **figures: str) -> NDArray[np.uint8]:
    return world.picture(_cells((5, _CIRCLE), (10, _STAR)), _looks(ground, **figures))


def test_its_golden_pictures_prove_it_alive() -> None:
    assert prove(Details())


@pytest.mark.parametrize("tag", world.DETAIL_TAGS)
@pytest.mark.parametrize("noise", [0.0, 12.0])
def test_true_scenes_pass_and_other_captions_scenes_do_not(tag: str, noise: float) -> None:
    rng = np.random.default_rng(0)
    choices = world.contents(tag, "heldout")
    right, wrong = [], []
    for _ in range(40):
        asked, other = (choices[index] for index in rng.choice(len(choices), 2, replace=False))
        cells = world.draw_scene(asked, rng)
        for found, content in ((right, asked), (wrong, other)):
            picture = world.picture(cells, world.looks_of(content, cells)) + rng.normal(0, noise, (64, 64, 3))
            found.append(_score(picture.clip(0, 255).astype(np.uint8), asked.metadata()).passed)
            if content == other and (world.looks_of(other, cells) == world.looks_of(asked, cells)).all():
                found.pop()
    assert np.mean(right) >= 0.95
    assert len(wrong) > 10 and not any(wrong)


def test_the_score_is_the_share_of_the_details_asked_for() -> None:
    assert (_score(_drawn()).value, _score(_drawn()).passed) == (1.0, 1.0)
    without_ground = _score(_drawn("plain"))
    assert without_ground.value == pytest.approx(2 / 3) and without_ground.passed == 0
    assert without_ground.details["reason"] == "striped ground: 0.00"
    assert _score(_drawn("dotted", circle="", star="pale")).value == pytest.approx(1 / 3)
    assert _score(_drawn("plain", circle="", star="")).value == 0


def test_what_was_not_asked_for_lowers_the_score() -> None:
    outlined_too = _score(_drawn(star="outlined pale"))
    assert outlined_too.value == pytest.approx(3 / 4) and outlined_too.passed == 0
    assert outlined_too.details["reason"] == "not outlined star: 0.00"
    everywhere = _score(_drawn(circle="outlined pale", star="outlined pale"))
    assert everywhere.value == pytest.approx(3 / 5)
    ground = _score(_drawn(), world.Content("look_attr", ("outlined", "circle", "pale", "star", "plain")).metadata())
    assert ground.value == pytest.approx(2 / 3) and ground.passed == 0


def test_another_shade_is_one_wrong_detail() -> None:
    assert _score(_drawn(star="dark")).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.65])
def test_details_by_halves_are_none(share: float) -> None:
    with_them, without = _drawn().astype(float), _drawn("plain", circle="", star="").astype(float)
    half = (without + share * (with_them - without)).round().astype(np.uint8)
    seen = read_picture(half)
    assert set(seen.grounds) == {UNCLEAR}
    assert all(UNCLEAR in (one.shade, one.outlined) for one in seen.objects) and len(seen.objects) == 2
    assert _score(half).value == 0
    nearly = (without + 0.9 * (with_them - without)).round().astype(np.uint8)
    assert _score(nearly).passed == 1


def test_a_ground_in_half_of_the_cells_is_half_a_ground() -> None:
    picture = _drawn()
    picture[32:] = _drawn("plain")[32:]
    score = _score(picture)
    assert score.details["slots"]["striped ground"] == 0.5
    assert score.value == pytest.approx(2.5 / 3) and score.passed == 0


def test_one_of_each_pays_no_more_than_its_share() -> None:
    asked = world.Content("look", ("pale", "red", "circle")).metadata()
    figures = ("", "outlined", "pale", "outlined pale", "dark", "outlined dark")
    looks = np.array([Look.of("plain", figures[place % 6]).index for place in range(world.CELLS)])
    score = _score(world.picture(np.full(world.CELLS, _CIRCLE), looks), asked)
    assert score.value is not None and score.value < 0.5 and score.passed == 0


def test_colours_and_objects_are_in_passed_alone() -> None:
    asked = world.Content("look", ("pale", "red", "circle"))
    looks = np.full(world.CELLS, Look.of("plain", "pale").index)
    blue = _score(world.picture(_cells((5, world.shape_cell("circle", "small", "blue"))), looks), asked.metadata())
    assert (blue.value, blue.passed) == (1.0, 0.0)
    assert "expected red circle>=1, found 0 of ['blue']" in blue.details["reason"]
    extra = _score(world.picture(_cells((5, _CIRCLE), (10, _STAR)), looks), asked.metadata())
    assert (extra.value, extra.passed) == (1.0, 0.0)
    missing = _score(world.picture(_cells((10, _STAR)), looks), asked.metadata())
    assert (missing.value, missing.passed) == (0.0, 0.0)


def test_a_black_shape_has_a_ground_and_nothing_else() -> None:
    black = world.picture(_cells((5, world.shape_cell("circle", "large", "black"))), np.full(world.CELLS, 3))
    assert _score(black, {"details": {"objects": [{"class": "circle", "shade": "pale"}]}}).value == 0


def test_every_look_is_read_as_itself() -> None:
    for look in LOOKS:
        seen = read_picture(world.picture(_cells((5, _CIRCLE)), np.full(world.CELLS, look.index)))
        assert set(seen.grounds) == {look.ground}
        assert [(one.shade, one.outlined) for one in seen.objects] == [(look.shade, look.outlined)]
        assert seen.objects[0].detection.label == "circle" and seen.objects[0].detection.color == "red"


def test_letters_are_no_objects_of_a_class() -> None:
    seen = read_picture(world.picture(_cells((0, world.letter_cell("O")))))
    assert [one.detection.label for one in seen.objects] == ["letter O"]


def test_prompts_without_details_are_not_for_it_and_other_sizes_fail() -> None:
    plain = _score(_drawn(), world.Content("colors", ("red", "circle")).metadata())
    assert plain.value is None and not plain.failed
    small = _score(np.zeros((32, 48, 3), np.uint8))
    assert small.value is None
    assert small.failure == "the picture is 48 x 32 pixels; details reads the shapes world, 64 x 64"


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ("striped", "details is 'striped': it must be a mapping with 'ground' and 'objects'"),
        ({"ground": "wavy"}, "details.ground is 'wavy': it must be one of plain, striped, dotted, checked"),
        ({"objects": ["circle"]}, "details.objects is ['circle']: it must be a list of mappings such as "),
        ({"objects": [{"shade": "pale"}]}, "details.objects[0].class is None: it must be one of circle, square"),
        (
            {"objects": [{"class": "star", "shade": "faint"}]},
            "details.objects[0].shade is 'faint': it must be one of normal, pale, dark",
        ),
        (
            {"objects": [{"class": "star", "outlined": "yes"}]},
            "details.objects[0].outlined is 'yes': it must be true or false",
        ),
        ({"objects": [{"class": "star"}]}, "details asks for none: neither a ground, nor a shade, nor an outline"),
    ],
)
def test_malformed_metadata_is_named_and_never_scored(details: object, message: str) -> None:
    problem = metadata_problem({"details": details})
    assert problem is not None and problem.startswith(message)
    score = _score(_drawn(), {"details": details})
    assert score.value is None and score.failure is not None and message in score.failure


def test_what_an_entry_leaves_out_is_as_without_details() -> None:
    asked = parse_details({"details": {"ground": "dotted", "objects": [{"class": "star"}]}})
    assert asked is not None and asked.ground == "dotted"
    assert [(one.label, one.shade, one.outlined) for one in asked.objects] == [("star", "normal", False)]
    assert parse_details({"details": None}) is None and metadata_problem({}) is None
