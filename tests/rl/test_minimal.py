"""The one-page example: its steps are those of a run, and it learns."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "minimal.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minimal_example", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_fits_on_a_page() -> None:
    assert len(FILE.read_text().splitlines()) < 100


def test_it_runs_and_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    means = load().main(2)
    assert len(means) == 2 and all(0.2 < mean < 0.9 for mean in means)
    assert capsys.readouterr().out.startswith(f"step   0  score {means[0]:.3f}  loss ")


@pytest.mark.slow
def test_it_learns() -> None:
    means = load().main(40)
    assert sum(means[-10:]) / 10 > sum(means[:3]) / 3 + 0.15
