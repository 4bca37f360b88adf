"""The embedded world: splits that share nothing, scenes that satisfy their captions, a detector that can be trusted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rewards.library.geneval.detectors.shapes import UNCLEAR, ShapesDetector
from rewards.library.geneval.rules import judge, parse
from rl.data.shapes import world
from rl.data.shapes.captions import WORDS
from rl.data.shapes.prompts import prompts
from rl.data.shapes.scenes import SHARES, dense_cells
from rl.data.shapes.sprites import CLASSES, COLORS, GRID, LETTERS, SIZES
from rl.types import Prompt, UserError

_DETECTOR = ShapesDetector()


def _degraded(picture: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    if how == "clean":
        return picture
    if how == "blurred":
        return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.9)))
    return np.clip(picture + rng.normal(0, 25, picture.shape), 0, 255).astype(np.uint8)


def _contents_in(cells: np.ndarray) -> dict[int, tuple[str, str]]:
    found = {}
    per_class = len(SIZES) * len(COLORS)
    for place, cell in enumerate(cells):
        if 0 < cell <= len(CLASSES) * per_class:
            index = int(cell) - 1
            found[place] = (CLASSES[index // per_class], list(COLORS)[index % len(COLORS)])
        elif cell:
            found[place] = (f"letter {LETTERS[int(cell) - 1 - len(CLASSES) * per_class]}", "black")
    return found


@pytest.mark.parametrize("tag", world.TAGS)
def test_splits_are_disjoint_and_not_empty(tag: str) -> None:
    parts = [set(world.contents(tag, split)) for split in world.SPLITS]
    assert all(parts)
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_spellings_are_trained_on_and_none_of_them_is_a_word() -> None:
    train = {content.words[0] for content in world.contents("ocr", "train")}
    assert len(train - set(WORDS)) == 4000
    assert len(train & set(WORDS)) == round(0.6 * len(WORDS))
    assert all(3 <= len(word) <= GRID for word in train)
    for split in ("rl", "heldout"):
        assert {content.words[0] for content in world.contents("ocr", split)} <= set(WORDS) - train


def test_captions_of_different_splits_never_coincide() -> None:
    texts = [{p.text for p in prompts(split, 400, world.TAGS)} for split in world.SPLITS]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


@pytest.mark.parametrize("tag", world.GENEVAL_TAGS)
def test_every_class_and_colour_is_trained_on(tag: str) -> None:
    words = {word for content in world.contents(tag, "train") for word in content.words}
    assert set(CLASSES) <= words
    if tag in ("colors", "color_attr"):
        assert set(COLORS) <= words


def test_metadata_is_genevals() -> None:
    content = world.Content("color_attr", ("red", "circle", "blue", "star"))
    assert content.caption(0) == "a red circle and a blue star"
    assert content.metadata()["include"] == [
        {"class": "circle", "count": 1, "color": "red"},
        {"class": "star", "count": 1, "color": "blue"},
    ]
    assert {"class": "circle", "count": 2} in content.metadata()["exclude"]
    assert {"class": "ring", "count": 1} in content.metadata()["exclude"]
    placed = world.Content("position", ("ring", "left of", "star")).metadata()["include"]
    assert placed == [{"class": "star", "count": 1}, {"class": "ring", "count": 1, "position": ["left of", 0]}]


@pytest.mark.parametrize("how", ["clean", "blurred", "noisy"])
def test_true_scenes_pass_their_own_prompt(how: str) -> None:
    rng, passed, total = np.random.default_rng(0), 0, 0
    for tag in world.GENEVAL_TAGS:
        for _ in range(60):
            choices = world.contents(tag, "heldout")
            content = choices[rng.integers(len(choices))]
            picture = _degraded(world.picture(world.draw_scene(content, rng)), how, rng)
            requirements = parse(content.metadata())
            assert requirements is not None
            passed += judge(requirements, _DETECTOR.detect([picture])[0]).strict
            total += 1
    assert passed / total >= 0.99


def test_scenes_of_other_prompts_are_refused() -> None:
    rng, accepted, total = np.random.default_rng(1), 0, 0
    for tag in world.GENEVAL_TAGS:
        choices = world.contents(tag, "heldout")
        for _ in range(60):
            shown, asked = (choices[index] for index in rng.choice(len(choices), 2, replace=False))
            if shown.objects() == asked.objects() and shown.words == asked.words:
                continue
            if tag == "single_object" and shown.words[0] == asked.words[0]:
                continue
            requirements = parse(asked.metadata())
            assert requirements is not None
            picture = world.picture(world.draw_scene(shown, rng))
            accepted += judge(requirements, _DETECTOR.detect([picture])[0]).strict
            total += 1
    assert total > 250
    assert accepted / total <= 0.01


@pytest.mark.parametrize("how", ["clean", "blurred", "noisy"])
def test_detector_finds_class_colour_and_place(how: str) -> None:
    rng = np.random.default_rng(2)
    cells = dense_cells(rng, 60)
    right = total = extra = 0
    for row in cells:
        picture = _degraded(world.picture(row), how, rng)
        found = {
            int(d.box[1] // 16 * GRID + d.box[0] // 16): (d.label, d.color) for d in _DETECTOR.detect([picture])[0]
        }
        truth = _contents_in(row)
        right += sum(found.get(place) == what for place, what in truth.items())
        extra += sum(place not in truth for place in found)
        total += len(truth)
    assert right / total >= 0.99
    assert extra / total <= 0.01


def test_an_object_between_two_colours_is_a_wrong_picture_not_a_failed_reward() -> None:
    asked = next(p for p in prompts("heldout", 10) if p.metadata["tag"] == "colors")
    content = next(c for c in world.contents("colors", "heldout") if c.metadata() == asked.metadata)
    picture = world.picture(world.draw_scene(content, np.random.default_rng(0))).astype(int)
    ink = np.abs(picture - picture[0, 0]).sum(-1) > 30
    picture[ink] = (255, 0, 255)  # none of the palette's
    (found,) = _DETECTOR.detect([picture.astype(np.uint8)])[0]
    assert found.color == UNCLEAR and found.label == content.words[1]
    requirements = parse(asked.metadata)
    assert requirements is not None
    assert not judge(requirements, [found]).strict


def test_smears_are_not_objects() -> None:
    rng = np.random.default_rng(3)
    smears = (rng.random((20, 8, 8, 3)) * 255).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    found = [d for ds in _DETECTOR.detect(list(smears)) for d in ds if d.score > 0.9 and d.color]
    assert len(found) <= 3


def test_detector_names_a_picture_of_the_wrong_size() -> None:
    with pytest.raises(UserError, match=r"reads 64x64 RGB pictures but got shape \(32, 32, 3\)"):
        _DETECTOR.detect([np.zeros((32, 32, 3), np.uint8)])


def test_prompts_are_balanced_repeatable_and_have_unique_ids() -> None:
    found = prompts("heldout", 100)
    assert found == prompts("heldout", 100)
    assert len({p.id for p in found}) == len(found) == 600
    assert all(isinstance(p, Prompt) and p.metadata["include"] for p in found)


def test_unknown_split_and_task_are_named() -> None:
    with pytest.raises(UserError, match="unknown split 'test'; choose among train, rl, heldout"):
        prompts("test")
    with pytest.raises(UserError, match="unknown task 'colour'"):
        prompts("rl", tags=["colour"])


def test_training_shares_sum_to_one() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert set(SHARES) == set(world.TAGS)
