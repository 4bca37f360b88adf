"""Both sampling engines on the same tiny random policy; one instance of each per module, since vLLM starts slowly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy.base import Policy
from policy.trainable import WeightStream
from tests.rollout.sampling_engines import start_engine


@pytest.fixture(scope="session")
def folder(tiny_policy: Path) -> Path:
    return tiny_policy


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy.load(folder)


@pytest.fixture(scope="module", params=["torch", "vllm"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    sampler = start_engine(request.param, folder, Policy.load(folder))
    yield sampler
    sampler.close()


@pytest.fixture(autouse=True)
def _folder_weights(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test loaded, the next one starts from the folder's weights at version 0."""
    yield
    if "engine" in request.fixturenames:
        sampler, folder = request.getfixturevalue("engine"), request.getfixturevalue("folder")
        if sampler.version != 0:
            sampler.load_weights("ar", WeightStream.of(Policy.load(folder).ar.state_dict().items()), 0)
