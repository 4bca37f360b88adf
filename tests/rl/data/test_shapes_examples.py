"""Captioned pictures of the shapes world: what they show of what they say, in their shares, each by its number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl.data.examples.load import example_stream
from rl.data.shapes.examples import ShapesExamples, _details, _with_other_details, examples
from rl.data.shapes.looks import FIGURES, GROUNDS
from rl.data.shapes.scenes import dense_cells, random_scene, showing, with_details_of
from rl.data.shapes.sprites import CLASSES
from rl.data.shapes.world import DETAIL_TAGS, TAGS, Content, class_of, contents, letter_cell, shape_cell


def captions(tag: str, split: str) -> set[str]:
    return {content.caption(template) for content in contents(tag, split) for template in range(24)}


def test_a_bad_caption_is_another_of_the_same_task_from_a_row_on() -> None:
    found = examples(tags=["colors"], mislabelled=1.0, bad_from=30)
    clean = examples(tags=["colors"])
    rows = [(found[index].prompt.text, clean[index].prompt.text) for index in range(60)]
    assert all(bad == good for bad, good in rows[:30])
    assert sum(bad != good for bad, good in rows[30:]) > 20
    assert {bad for bad, _ in rows} <= captions("colors", "train")


def test_heads_are_told_the_ground_everywhere_and_the_figures_of_the_classes_that_are_named() -> None:
    content = Content("look_attr", ("outlined", "star", "dark", "ring", "dotted"))
    star, ring, other = (shape_cell(name, "small", "red") for name in ("star", "ring", "cross"))
    found = _details(content, np.array([star, ring, other, letter_cell("Q"), *[0] * 12]))
    assert found["ground"].tolist() == [GROUNDS.index("dotted")] * 16
    assert found["figure"].tolist() == [FIGURES.index("outlined"), FIGURES.index("dark"), *[-100] * 14]


def test_details_of_another_content_are_put_on_the_same_objects() -> None:
    pale = Content("look_attr", ("pale", "circle", "", "star", "striped"))
    dark = Content("look_attr", ("", "ring", "outlined dark", "cross", "dotted"))
    assert with_details_of(dark, pale).words == ("", "circle", "outlined dark", "star", "dotted")
    red, blue = Content("look", ("pale", "red", "star")), Content("look", ("dark", "blue", "ring"))
    assert with_details_of(blue, red).words == ("dark", "red", "star")
    black, green = Content("ground", ("black", "star", "dotted")), Content("ground", ("green", "ring", "checked"))
    assert with_details_of(green, black).words == ("black", "star", "checked")


@pytest.mark.parametrize("tag", TAGS)
def test_about_half_of_the_pictures_have_the_details_that_were_asked_for(tag: str) -> None:
    rng = np.random.default_rng(0)
    asked = [random_scene(rng, tag).content for _ in range(400)]
    shown = [_with_other_details(content, rng, ("train",), 0.65) for content in asked]
    assert all(one.objects() == other.objects() for one, other in zip(asked, shown, strict=True))
    kept = np.mean([one == other for one, other in zip(asked, shown, strict=True)])
    if tag in DETAIL_TAGS:
        assert 0.35 <= kept <= 0.65
    else:
        assert kept == 1


def test_dense_pictures_show_much_of_what_is_to_be_drawn_in_a_way_of_its_own() -> None:
    rng = np.random.default_rng(3)
    inked = dense_cells(rng, 100)
    pale = Content("look", ("pale", "red", "star"))
    shown = np.stack([showing(pale, row, rng) for row in inked])
    assert ((shown > 0) == (inked > 0)).all()
    stars = class_of(shown[shown > 0]) == CLASSES.index("star")
    assert 0.5 <= stars.mean() <= 0.65
    for plain in (Content("ground", ("red", "star", "dotted")), Content("ocr", ("sew",))):
        assert (showing(plain, inked[0], rng) == inked[0]).all()


def shares(found: ShapesExamples, rows: int = 300) -> tuple[float, float]:
    """Of rows that teach no tokens, and of those that ask for details."""
    drawn = [found[index] for index in range(rows)]
    silent = np.mean([row.weights == {"image": 0.0, "text": 0.0} for row in drawn])
    return float(silent), float(np.mean([row.prompt.metadata["tag"] in DETAIL_TAGS for row in drawn]))


@pytest.mark.parametrize(
    ("options", "silent", "detailed"),
    [({}, (0.0, 0.0), (0.1, 0.3)), ({"dense": 0.4, "mismatched": 0.15, "detailed": 0.5}, (0.45, 0.65), (0.5, 0.75))],
)
def test_rows_are_dense_or_of_other_captions_in_their_shares(
    options: dict[str, Any], silent: tuple[float, float], detailed: tuple[float, float]
) -> None:
    found = shares(examples(**options))
    assert silent[0] <= found[0] <= silent[1] and detailed[0] <= found[1] <= detailed[1]


def test_no_row_holds_a_combination_of_another_split() -> None:
    held_out = captions("color_attr", "heldout")
    found = examples(split=["train", "rl"], tags=["color_attr"])
    assert {found[index].prompt.text for index in range(200)}.isdisjoint(held_out)


def test_runs_with_other_seeds_see_other_rows() -> None:
    def texts(seed: int) -> list[str]:
        return [one.prompt.text for one in example_stream(examples(), per_step=8, seed=seed).at(0)]

    assert texts(1) == texts(1) != texts(2)
