"""The embedded model's stages: configurations that fit the world, and one command that runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policy.base import Policy
from policy.shapes.pretrain.__main__ import _BAD_FROM, STAGES, main
from rl.config.load import load
from rl.data.shapes.looks import FIGURES, GROUNDS
from tests.rl.run_case import ROOT, environment

FOLDER = ROOT / "policy" / "shapes" / "pretrain"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_a_sound_run(stage: str) -> None:
    config = load(FOLDER / f"{stage}.yaml")
    assert config.supervised is not None and config.train.micro_batch == config.supervised.rows_per_step
    if stage in _BAD_FROM:
        assert config.supervised.examples.options["bad_from"] == round(_BAD_FROM[stage] * config.train.steps)
    if stage in ("ar", "unify", "places"):
        assert config.supervised.heads == {"code": 128, "place": 16, "ground": len(GROUNDS), "figure": len(FIGURES)}


_TOGETHER = "--first and --policy go together: a stage, and the policy that it goes on from; give both."


@pytest.mark.parametrize("typed", [["--first", "ar"], ["--policy", "shapes"]])
def test_a_later_stage_needs_a_policy_to_go_on_from(
    typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain", "--out", str(tmp_path), *typed])
    assert main() == 2
    assert _TOGETHER in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_makes_a_whole_policy_and_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "made"
    steps = [word for stage in STAGES for word in (f"--{stage.replace('_', '-')}-steps", "2")]
    typed = [sys.executable, "-m", "policy.shapes.pretrain", "--out", str(out), *steps]
    done = subprocess.run(typed, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, start = Policy.load(out), Policy.load(out / "work" / "start")
    for part in ("ar", "decoder"):
        before, after = getattr(start, part).state_dict(), getattr(made, part).state_dict()
        same = {name: value for name, value in before.items() if value.shape == after[name].shape}
        assert any(not value.equal(after[name]) for name, value in same.items()), part
    assert set(made.task_templates) == {"edit", "answer"} and made.reads == {"answer": "features"}
    assert made.decoder.reference is not None and made.decoder.reference.ways == ("channels",)
    assert made.decoder.vae.config.scaling_factor != start.decoder.vae.config.scaling_factor
    again = subprocess.run(typed, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count("this run is finished") == len(STAGES), again.stdout
