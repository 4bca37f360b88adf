"""What every test stands on: a quiet, offline, CPU-only process with few threads, and one tiny random policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch, vLLM or DeepSpeed are imported anywhere: they read these once.
os.environ.update(
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="passive",  # a spinning thread costs the other processes their core
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    VLLM_PLUGINS="",  # no stray plug-ins of other installed packages
    DS_ACCELERATOR="cpu",
)


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete policy folder with random weights: right shapes, no knowledge."""
    from policy.shapes.model import make_random

    folder = tmp_path_factory.mktemp("policy") / "tiny"
    make_random(folder, seed=0)
    return folder
