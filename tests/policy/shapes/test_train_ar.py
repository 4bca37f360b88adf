"""Pre-training of the language model: what its rows hold, in which order, and that a finished stage is not repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.shapes.pretrain import ar as train_ar
from policy.shapes.pretrain.scenes import random_scene
from rl.data.shapes.looks import FIGURES, GROUNDS
from rl.data.shapes.world import TAGS, Content, contents, letter_cell, shape_cell


@pytest.mark.parametrize("tag", TAGS)
def test_a_bad_caption_is_another_of_the_same_task(tag: str) -> None:
    rng = np.random.default_rng(0)
    captions = {content.caption(template) for content in contents(tag, "train") for template in range(24)}
    scene = random_scene(rng, tag)
    assert train_ar._captioned_as(scene, rng, 0.0) is scene
    bad = {train_ar._captioned_as(scene, rng, 1.0).caption for _ in range(20)}
    assert len(bad) > 1 and bad <= captions


def test_bad_captions_come_last(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def captioned_as(scene: train_ar.Scene, rng: np.random.Generator, noise: float) -> train_ar.Scene:
        asked.append(noise)
        return scene

    monkeypatch.setattr(train_ar, "_captioned_as", captioned_as)
    monkeypatch.setattr(train_ar, "_MISMATCHED", 0.0)
    train_ar._dataset(Policy.load(tiny_policy), 20, seed=0)
    assert asked == [0.0] * 18 + [train_ar._MISLABELLED] * 2


def test_heads_are_told_the_ground_everywhere_and_the_figures_of_the_classes_that_are_named() -> None:
    content = Content("look_attr", ("outlined", "star", "dark", "ring", "dotted"))
    star, ring, other = (shape_cell(name, "small", "red") for name in ("star", "ring", "cross"))
    cells = np.array([star, ring, other, letter_cell("Q"), *[0] * 12])
    grounds, figures = train_ar._details(content, cells)
    assert grounds == [GROUNDS.index("dotted")] * 16
    assert figures == [FIGURES.index("outlined"), FIGURES.index("dark"), *[-100] * 14]


def test_heads_read_code_place_ground_and_figure_and_skip_what_is_not_said() -> None:
    head = train_ar.ContentHead(hidden_size=4, num_image_tokens=8, places=16)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    codes, nothing = torch.tensor([[-100, 3, 5]]), torch.tensor([[-100, -100, -100]])
    details = torch.tensor([[-100, 1, 1]]), torch.tensor([[-100, -100, 2]])
    loss = head.loss(torch.zeros(1, 3, 4), codes, *details).item()
    assert loss == pytest.approx(np.log([8, 16, len(GROUNDS), len(FIGURES)]).sum(), rel=1e-5)
    without = head.loss(torch.zeros(1, 3, 4), codes, details[0], nothing).item()
    assert without == pytest.approx(np.log([8, 16, len(GROUNDS)]).sum(), rel=1e-5)


def test_training_keeps_the_rows_order_and_a_finished_stage_is_loaded(tiny_policy: Path, tmp_path: Path) -> None:
    policy = Policy.load(tiny_policy)
    trainer = train_ar._trainer(policy, tmp_path / "unused", 2, seed=0)
    assert list(trainer._get_train_sampler()) == list(range(2 * train_ar._BATCH))
    before = {name: value.clone() for name, value in policy.ar.state_dict().items()}
    train_ar.train_ar(policy, tmp_path, 2, seed=0)
    trained = {name: value.clone() for name, value in policy.ar.state_dict().items()}
    assert set(trained) == set(before)  # the content head is gone
    assert any(not trained[name].equal(before[name]) for name in before)
    again = Policy.load(tiny_policy)
    train_ar.train_ar(again, tmp_path, 2, seed=0)
    assert all(value.equal(trained[name]) for name, value in again.ar.state_dict().items())
