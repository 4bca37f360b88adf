"""Details below the codebook: asked for in captions, drawn beside the cells, and nothing else has changed."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from rewards.library.geneval.detectors.shapes import ShapesDetector
from rewards.library.geneval.rules import judge, parse
from rl.data.shapes import world
from rl.data.shapes.looks import FIGURES, GROUNDS, LOOKS, SHADED_COLORS, Look, every_look, ground_texture
from rl.data.shapes.prompts import prompts
from rl.data.shapes.sprites import CLASSES, COLORS, every_cell

_TASKS = (*world.GENEVAL_TAGS, "ocr")
_LISTS = "622de05c1cc0eebc229531ca8db6fe52ce6dc9599623b3d0c3e4e1508b7cafc6"
_CELLS = "21451028529c101d0deca17f129b814ee0c3574c7d155e110e6bbd612a993420"


def test_prompts_and_cells_without_details_are_as_they_were() -> None:
    rows = [
        [prompt.id, prompt.text, prompt.metadata]
        for tag in _TASKS
        for split in ("train", "rl", "heldout", ("train", "rl"))
        for prompt in prompts(split, 300, [tag])
    ]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == _LISTS
    assert hashlib.sha256(every_cell().tobytes()).hexdigest() == _CELLS
    assert np.array_equal(every_look()[0], every_cell())


def test_pictures_without_details_are_the_cells_themselves() -> None:
    rng = np.random.default_rng(0)
    for tag in _TASKS:
        content = world.contents(tag, "rl")[0]
        cells = world.draw_scene(content, rng)
        assert not world.looks_of(content, cells).any()
        assert np.array_equal(world.picture(cells, world.looks_of(content, cells)), world.picture(cells))


def test_looks_are_in_the_order_of_ground_and_figure() -> None:
    assert [look.index for look in LOOKS] == list(range(len(GROUNDS) * len(FIGURES)))
    assert Look.of("dotted", "outlined pale") == Look("dotted", "pale", outlined=True)
    assert Look("dotted", "pale", outlined=True).index == 2 * len(FIGURES) + FIGURES.index("outlined pale")


def test_every_look_of_a_coloured_shape_is_another_picture_and_of_the_rest_only_the_ground_shows() -> None:
    drawn = every_look().reshape(len(LOOKS), len(every_cell()), -1)
    red, black = (world.shape_cell("circle", "large", color) for color in ("red", "black"))
    assert len(np.unique(drawn[:, red], axis=0)) == len(LOOKS)
    for cell in (0, black, world.letter_cell("A")):
        assert len(np.unique(drawn[:, cell], axis=0)) == len(GROUNDS)


def test_textures_keep_the_grounds_brightness_and_go_on_from_cell_to_cell() -> None:
    for name in GROUNDS[1:]:
        texture = ground_texture(name)
        assert abs(texture.mean()) < 1e-6 and np.abs(texture).max() == 1
        assert np.array_equal(texture[:8], texture[8:]) and np.array_equal(texture[:, :8], texture[:, 8:])
    assert not ground_texture("plain").any()


@pytest.mark.parametrize(
    ("tag", "words", "caption"),
    [
        ("ground", ("red", "circle", "striped"), "a red circle on a striped ground"),
        ("look", ("pale", "red", "circle"), "a pale red circle"),
        ("look", ("outlined dark", "blue", "star"), "an outlined dark blue star"),
        ("look_attr", ("outlined", "star", "", "ring", "dotted"), "an outlined star and a ring on a dotted ground"),
        ("details", ("pale", "star", "pale", "ring", "checked"), "a pale star and a pale ring on a checked ground"),
    ],
)
def test_captions_ask_for_details(tag: str, words: tuple[str, ...], caption: str) -> None:
    assert world.Content(tag, words).caption(0) == caption


def test_metadata_says_which_details() -> None:
    metadata = world.Content("look_attr", ("outlined dark", "star", "", "ring", "dotted")).metadata()
    assert metadata["details"] == {
        "ground": "dotted",
        "objects": [
            {"class": "star", "shade": "dark", "outlined": True},
            {"class": "ring", "shade": "normal", "outlined": False},
        ],
    }
    assert metadata["include"] == [{"class": "star", "count": 1}, {"class": "ring", "count": 1}]
    assert "details" not in world.Content("colors", ("red", "circle")).metadata()


def test_a_scene_has_its_details_on_the_classes_that_are_named() -> None:
    content = world.Content("look_attr", ("outlined", "star", "pale", "ring", "striped"))
    star, ring, other = (world.shape_cell(name, "small", "red") for name in ("star", "ring", "cross"))
    cells = np.zeros(world.CELLS, np.int64)
    cells[[1, 2, 3, 4]] = star, ring, other, world.letter_cell("Q")
    figures = ["", "outlined", "pale", "", "", *[""] * 11]
    assert world.looks_of(content, cells).tolist() == [Look.of("striped", figure).index for figure in figures]
    assert world.class_of(cells)[:5].tolist() == [-1, CLASSES.index("star"), CLASSES.index("ring"), 4, -1]


def test_what_is_pale_dark_or_outlined_is_never_black() -> None:
    rng = np.random.default_rng(0)
    black = list(COLORS).index("black")
    for content in world.contents("details", "train"):
        cells = world.draw_scene(content, rng)
        assert not ((cells[cells > 0] - 1) % len(COLORS) == black).any()
    assert {content.words[1] for content in world.contents("look", "train")} == set(SHADED_COLORS)


def test_two_objects_drawn_alike_are_of_the_same_split_as_the_harder_task() -> None:
    for split in world.SPLITS:
        alike = {content.words for content in world.contents("details", split)}
        assert alike and alike < {content.words for content in world.contents("look_attr", split)}
        assert all(words[0] == words[2] != "" for words in alike)


@pytest.mark.parametrize("tag", world.DETAIL_TAGS)
def test_genevals_detector_reads_objects_and_colours_through_details(tag: str) -> None:
    rng, detector, passed = np.random.default_rng(0), ShapesDetector(), []
    for content in world.contents(tag, "train")[:80]:
        cells = world.draw_scene(content, rng)
        requirements = parse(content.metadata())
        assert requirements is not None
        found = detector.detect([world.picture(cells, world.looks_of(content, cells))])[0]
        passed.append(judge(requirements, found).strict)
    assert all(passed)


def test_every_cell_in_every_look_is_detected_as_itself() -> None:
    detector, wrong = ShapesDetector(), []
    cells = [(name, color, size) for name in CLASSES for color in COLORS for size in ("small", "large")]
    for name, color, size in cells:
        row = np.zeros(world.CELLS, np.int64)
        row[5] = world.shape_cell(name, size, color)
        pictures = [world.picture(row, np.full(world.CELLS, look.index)) for look in LOOKS]
        for found in detector.detect(pictures):
            if [(one.label, one.color) for one in found] != [(name, color)]:
                wrong.append((name, color, size))
    assert not wrong
