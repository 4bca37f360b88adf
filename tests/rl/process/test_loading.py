"""What a start imports, and when; each in a fresh interpreter."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl.process.loading import loading

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "transformers", "diffusers", "deepspeed", "accelerate", "vllm", "paddle", "scipy", "jinja2", "trl")


def loaded(code: str, *of: str) -> list[str]:
    """Which of the modules ``of`` are there after ``code``."""
    asked = f"{code}\nimport json, sys\nprint(json.dumps([one for one in {of!r} if one in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import rl.launch, rl.start",
        "import rewards.pool.worker, rewards.library.geneval.reward",  # the process of the examples' checker
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert loaded(code, *HEAVY) == []


def test_a_version_is_looked_up_only_when_it_is_asked_for() -> None:
    assert loaded("import rl", "importlib.metadata", "numpy") == []


def test_statistics_import_no_scipy_stats() -> None:
    assert loaded("import rl.evaluation.statistics", "scipy.stats", "scipy.special") == ["scipy.special"]


def test_every_command_shares_the_cores_before_torch_is_imported() -> None:
    code = (
        "import os, runpy, sys\nsys.argv = ['-m']\nimport policy\n"  # as `python -m policy.paint` begins
        "assert 'torch' not in sys.modules\nassert os.environ['GOMP_SPINCOUNT'] == '2000'\n"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "GOMP"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_was_loaded_is_left_alone_by_the_collector() -> None:
    frozen = gc.get_freeze_count()
    try:
        with loading():
            assert not gc.isenabled()
            kept = [[] for _ in range(100)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= frozen + len(kept)
    finally:
        gc.unfreeze()
