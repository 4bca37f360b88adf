"""Pre-training of the decoder: what its pictures show of the details that their captions ask for."""

from __future__ import annotations

import numpy as np
import pytest

from policy.shapes.pretrain import decoder as train_decoder
from policy.shapes.pretrain.scenes import dense_cells, random_scene, showing, with_details_of
from rl.data.shapes.sprites import CLASSES
from rl.data.shapes.world import DETAIL_TAGS, TAGS, Content, class_of


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
    contents = [random_scene(rng, tag).content for _ in range(400)]
    kept = np.mean([train_decoder._painted(content, rng, train_decoder._DISOBEYED) == content for content in contents])
    if tag in DETAIL_TAGS:
        assert 0.35 <= kept <= 0.65
    else:
        assert kept == 1


def test_the_last_steps_learn_from_disobedient_rows_and_the_others_from_none() -> None:
    shown = [train_decoder._shown_at(step, 100) for step in range(100)]
    assert set(shown[:70]) == {range(20_000)} and set(shown[70:]) == {range(20_000, 30_000)}


def test_the_other_details_are_of_the_same_objects() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        content = random_scene(rng, "details").content
        assert train_decoder._painted(content, rng, 1.0).objects() == content.objects()


def test_cells_are_dense_or_of_other_captions_in_their_shares() -> None:
    rng = np.random.default_rng(2)
    scenes = [train_decoder._scene(rng) for _ in range(200)]
    cells = train_decoder._cells(scenes, rng)
    own = (cells == np.stack([scene.cells_T for scene in scenes])).all(1)
    dense, wrong = int(200 * train_decoder._DENSE), int(200 * train_decoder._MISMATCHED)
    assert own[dense:-wrong].all() and not own[:dense].any() and own[-wrong:].mean() < 0.2
    assert (cells[:dense] > 0).mean() > 0.4
    asking = np.mean([scene.content.tag in DETAIL_TAGS for scene in scenes])
    assert 0.5 <= asking <= 0.75


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
