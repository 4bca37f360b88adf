"""The embedded model's stages: three configurations that fit the world, and one command that runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policy.base import Policy
from policy.shapes.pretrain.__main__ import _ALL, _BAD_FROM, STAGES, UNIFIED, main
from rl.config.load import load
from rl.data.shapes.looks import FIGURES, GROUNDS
from tests.rl.run_case import ROOT, environment

FOLDER = ROOT / "policy" / "shapes" / "pretrain"


@pytest.mark.parametrize("stage", _ALL)
def test_every_stage_is_a_sound_run(stage: str) -> None:
    config = load(FOLDER / f"{stage}.yaml")
    assert config.supervised is not None and config.train.micro_batch == config.supervised.rows_per_step
    if stage in _BAD_FROM:
        assert config.supervised.examples.options["bad_from"] == round(_BAD_FROM[stage] * config.train.steps)
    if stage in ("ar", "unify"):
        assert config.supervised.heads == {"code": 128, "place": 16, "ground": len(GROUNDS), "figure": len(FIGURES)}


_TOGETHER = "--first and --policy go together: a stage, and the policy that it goes on from; give both."


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--first", "ar"], _TOGETHER),
        (["--policy", "shapes"], _TOGETHER),
        (
            ["--first", "unify", "--policy", "shapes"],
            "--first unify: it is a stage of the unified model; choose among vae, ar, decoder, or add --unified.",
        ),
        (
            ["--first", "decoder", "--policy", "shapes", "--unified"],
            "it is a stage of the shipped model; choose among vae, ar, understanding, unify, unified_decoder.",
        ),
    ],
)
def test_a_later_stage_needs_a_policy_to_go_on_from(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain", "--out", str(tmp_path), *typed])
    assert main() == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stages", [STAGES, UNIFIED])
def test_the_command_makes_a_whole_policy_and_goes_on_where_it_was(stages: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "made"
    steps = [word for stage in stages for word in (f"--{stage.replace('_', '-')}-steps", "2")]
    unified = ["--unified"] * (stages is UNIFIED)
    typed = [sys.executable, "-m", "policy.shapes.pretrain", "--out", str(out), *unified, *steps]
    done = subprocess.run(typed, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, start = Policy.load(out), Policy.load(out / "work" / "start")
    for part in ("ar", "decoder"):
        before, after = getattr(start, part).state_dict(), getattr(made, part).state_dict()
        same = {name: value for name, value in before.items() if value.shape == after[name].shape}
        assert any(not value.equal(after[name]) for name, value in same.items()), part
    assert set(made.task_templates) == ({"edit", "answer"} if unified else set())
    assert made.reads == ({"answer": "features"} if unified else {})
    assert (made.decoder.reference.ways if made.decoder.reference else ()) == (("channels",) if unified else ())
    assert made.decoder.vae.config.scaling_factor != start.decoder.vae.config.scaling_factor
    again = subprocess.run(typed, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count("this run is finished") == len(stages), again.stdout
