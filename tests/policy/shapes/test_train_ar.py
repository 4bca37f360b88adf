"""Pre-training of the language model: what its rows hold, in which order, and that a finished stage is not repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy.base import Policy
from policy.shapes.pretrain import ar as train_ar
from policy.shapes.pretrain.scenes import random_scene
from rl.data.shapes.world import TAGS, contents


@pytest.mark.parametrize("tag", TAGS)
def test_a_bad_caption_is_another_of_the_same_task(tag: str) -> None:
    rng = np.random.default_rng(0)
    captions = {content.caption(template) for content in contents(tag, "train") for template in range(24)}
    scene = random_scene(rng, tag)
    assert train_ar._caption(scene, rng, 0.0) == scene.caption
    bad = {train_ar._caption(scene, rng, 1.0) for _ in range(20)}
    assert len(bad) > 1 and bad <= captions


def test_bad_captions_come_last(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def caption(scene: train_ar.Scene, rng: np.random.Generator, noise: float) -> str:
        asked.append(noise)
        return scene.caption

    monkeypatch.setattr(train_ar, "_caption", caption)
    monkeypatch.setattr(train_ar, "_MISMATCHED", 0.0)
    train_ar._dataset(Policy.load(tiny_policy), 20, seed=0)
    assert asked == [0.0] * 18 + [train_ar._MISLABELLED] * 2


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
