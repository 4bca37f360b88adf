"""A small checkpoint and its policy folder, made once; tests change copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policy.convert.to_policy import to_policy
from tests.policy.convert.twin import make_twin


@pytest.fixture(scope="session")
def made_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("convert") / "twin")


@pytest.fixture(scope="session")
def made_policy(made_twin: Path) -> Path:
    out = made_twin.with_name("policy")
    to_policy(made_twin, out, tell=lambda _: None)
    return out


@pytest.fixture
def twin(made_twin: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_twin, tmp_path / "twin"))


@pytest.fixture
def policy(made_policy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_policy, tmp_path / "policy"))
