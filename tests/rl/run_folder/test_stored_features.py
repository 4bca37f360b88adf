"""Vectors of pictures on disk and on their way to a worker: the same to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.pictures import stored
from rl.cluster.groups import joined, split
from rl.cluster.weights.canary import read as read_canary
from rl.cluster.weights.canary import written as written_canary
from rl.rows import sequences
from rl.run_folder.experience import ExperienceLog
from rl.run_folder.random_state import rng_state
from rl.types import PictureFeatures, Rollout, Sequences
from rollout.sync import Canary
from tests.rl.test_learn import an_experience


def vectors(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


def a_reading_rollout() -> Rollout:
    rollout = an_experience().rollout
    one = PictureFeatures(1, "abc", vectors(1))
    return replace(rollout, features=(one, *(None for _ in rollout.prompts[1:])))


def test_vectors_come_back_in_their_own_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        given = (PictureFeatures(4, "abc", vectors(0, dtype).T), None)
        again = stored.read(json.loads(json.dumps(stored.written(given))))
        assert again is not None and again == given and again[0] is not None and given[0] is not None
        assert again[0].vectors_ND.dtype == dtype and again[0].vectors_ND.equal(given[0].vectors_ND)
    assert stored.written(None) is None and stored.read(None) is None


def test_a_logged_step_is_learnt_from_with_the_same_vectors(tmp_path: Path) -> None:
    given = replace(an_experience(), rollout=a_reading_rollout())
    log = ExperienceLog(tmp_path, given.rollout.prompts, stored)
    log.write(given, rng_state())
    found = log.read(given.step).experience.rollout.features
    assert found == given.rollout.features and found is not None and found[0] is not None
    assert found[0].vectors_ND.equal(vectors(1))


def test_a_log_that_does_not_know_how_writes_nothing(tmp_path: Path) -> None:
    given = replace(an_experience(), rollout=a_reading_rollout())
    with pytest.raises(ValueError, match="must be told how to write them"):
        ExperienceLog(tmp_path, given.rollout.prompts).write(given, rng_state())


def test_a_canary_asks_with_them() -> None:
    rows = sequences(a_reading_rollout()).take([0, 5])
    asked = Canary(rows, np.zeros((2, 4), np.float32))
    found = read_canary(json.loads(json.dumps(written_canary({"logprobs": asked}))))["logprobs"].question
    assert isinstance(found, Sequences) and found.features == rows.features
    assert found.features is not None and found.features[0] is not None and found.features[1] is None


def test_groups_keep_theirs() -> None:
    whole = a_reading_rollout()
    parts = split(whole)
    assert [part.features for part in parts] == [(one,) for one in whole.features or ()]
    assert joined(parts).features == whole.features
    assert joined(split(replace(whole, features=None))).features is None
