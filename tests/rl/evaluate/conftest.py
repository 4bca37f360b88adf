from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.rl.evaluate.tiny_pipeline import write_pipeline

    return write_pipeline(tmp_path_factory.mktemp("pipelines") / "tiny-sd")
