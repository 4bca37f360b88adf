from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rl.config.load import load
from rl.evaluation.results import Evaluation, Outcome
from rl.sweep.__main__ import sweep
from rl.sweep.arguments import read_arguments
from rl.sweep.on_ray import held_out
from rl.types import UserError
from tests.rl.synthetic_run import write_run

ROOT = Path(__file__).resolve().parents[3]

# Stands for rl.launch: writes the evaluations of a finished run one after another, as fast or slowly as it is told.
LAUNCHER = """
import pathlib, shutil, signal, sys, time
options = dict(one.split("=", 1) for one in sys.argv[2:] if one != "--resume")
source = pathlib.Path({runs!r}) / ("gain" + options["train.lr"])
folder = pathlib.Path(options["run.folder"])
folder.mkdir(parents=True, exist_ok=True)
def save(*_):
    (folder / "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
if options["train.lr"] == "0.5":
    print("error: no such model"); sys.exit(2)
for step in (0, 2, 4, 6):
    time.sleep({wait} * (4 if options["train.lr"] == "0.1" else 1))
    for file in source.glob(f"evaluation-{{step}}.*"):
        shutil.copy(file, folder / file.name)
    lines = (source / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:step]))
"""


def start(tmp_path: Path, *arguments: str, wait: float = 1.0) -> int:
    runs, script, config = tmp_path / "finished", tmp_path / "launcher.py", tmp_path / "geneval.yaml"
    for gain in (0.8, 0.1) if not runs.exists() else ():
        write_run(runs / f"gain{gain}", steps=6, per_task=5, gain=gain)
    script.write_text(LAUNCHER.format(runs=str(runs), wait=wait))
    extends = f"extends: {ROOT / 'examples/geneval.yaml'}"
    config.write_text(f"{extends}\ntrain: {{steps: 6, warmup_steps: 0}}\neval: {{every: 2}}\n")
    given = [str(config), "--seeds", "0", "--folder", str(tmp_path / "s"), "--ray", *arguments]
    return sweep(read_arguments(given), (sys.executable, "-S", str(script)))


@pytest.mark.slow
def test_ray_runs_all_and_ends_the_worst_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(tmp_path, "--asha", "train.lr=0.8,0.1,0.5") == 1
    lines = [json.loads(line) for line in (tmp_path / "s" / "sweep.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["done", "stopped early", "failed"]
    assert lines[1]["reason"].startswith("ASHA, held-out score 0.")
    assert (tmp_path / "s" / "train.lr=0.1-seed0" / "saved").exists()  # it was asked to save
    assert lines[2]["reason"] == "exit code 2: no such model"
    assert "stopped early: ASHA" in (tmp_path / "s" / "sweep.html").read_text()
    # the same sweep again keeps what was decided
    capsys.readouterr()
    assert start(tmp_path, "--asha", "train.lr=0.8,0.1") == 0
    assert "train.lr=0.1-seed0: stopped early before (ASHA" in capsys.readouterr().err


def test_asha_judges_by_what_is_trained_on() -> None:
    rewards = ["rewards.nice.use=clip_score", "rewards.nice.role=monitor", "rewards.geneval.use=geneval"]
    outcomes = (Outcome("nice", "colors", "a", 1, 0.9), Outcome("geneval", "colors", "a", 1, 0.25))
    assert held_out(Evaluation(3, outcomes), load(None, rewards)) == 0.25
    assert held_out(Evaluation(3, outcomes[:1]), load(None, rewards)) == 0.9  # nothing else is there
    assert held_out(Evaluation(3, ()), load(None, rewards)) == 0.0


def test_asha_needs_scores_on_the_way(tmp_path: Path) -> None:
    for dry in ((), ("--dry-run",)):
        with pytest.raises(UserError, match=r"--asha judges .* there are none: eval.every is 0; it must be from 1 to "):
            start(tmp_path, "--asha", "train.lr=0.8", "eval.every=0", *dry)
