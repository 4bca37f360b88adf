"""Two ranks through the real command: the metrics of one, a kill that is told, and a resume on another number."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from rl.run_folder.checkpoint import way_on
from tests.rl.run_case import ROOT, command, environment, launch, metrics, write_config

# Where a gradient is next to nothing, AdamW's usual epsilon makes a whole step of its rounding error, and that differs
# with the order of a sum; with 1e-5 (the gradients' RMS is 1e-3) two runs differ by what the ranks do, not by chance.
QUICK: dict[str, Any] = {
    "train": {
        "steps": 6,
        "lr": 1e-3,
        "warmup_steps": 2,
        "eps": 1e-5,
        "micro_batch": 5,
        "zero_stage": 1,
        "updates_per_rollout": 2,
    },
    "anchor": {"use": "condition", "options": {"beta": 0.1}},
    "data": {
        "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4}},
        "eval": None,
        "prompts_per_step": 3,
    },
}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rl.launch")


@pytest.fixture(scope="module")
def alone_folder(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = launch(write_config(folder, tiny_policy, **QUICK))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(alone_folder: Path) -> list[tuple[int, dict[str, float]]]:
    return metrics(alone_folder / "run")


def start(config: Path, *arguments: str, program: tuple[str, ...] = ("-m", "rl.launch")) -> subprocess.Popen[str]:
    """A run that has logged two steps."""
    run = subprocess.Popen(
        command(config, *arguments, program=program),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = config.parent / "run" / "metrics.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.02)
    return run


def ranks_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """The other ranks' processes, or under torchrun all of them."""
    return [child for child in psutil.Process(run.pid).children() if "rl.launch" in child.cmdline()]


def kill(run: subprocess.Popen[str], victim: int) -> tuple[str, float]:
    """What stood on standard error, and how long the end took."""
    others = ranks_of(run)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    _, said = run.communicate(timeout=60)
    took = time.monotonic() - killed
    assert not [one for one in psutil.wait_procs(others, timeout=5)[1] if one.status() != psutil.STATUS_ZOMBIE]
    return said, took


def same(found: list[tuple[int, dict[str, float]]], expected: list[tuple[int, dict[str, float]]]) -> None:
    """Up to float noise; the largest of differences between two engines is nothing but noise."""
    assert [step for step, _ in found] == [step for step, _ in expected]
    for (_, mine), (_, theirs) in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-4)


def test_two_ranks_train_as_one_does_and_a_killed_one_is_named(
    alone: list[tuple[int, dict[str, float]]], tiny_policy: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, tiny_policy, **QUICK)
    run = start(config, "train.ranks=2", "train.steps=500")
    (other,) = ranks_of(run)
    said, took = kill(run, other.pid)
    assert run.returncode == 3 and took < 30
    sentence = f"error: the run cannot go on: rank 1 of 2 (process {other.pid} on "
    assert said.count(sentence) == 1
    assert f") was killed (SIGKILL); the other ranks end as well, and {way_on(tmp_path / 'run')}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "run.lock").exists()
    before = len(metrics(tmp_path / "run"))
    resumed = launch(config, "--resume", "train.ranks=1", f"train.steps={max(6, before)}")
    assert resumed.returncode == 0, resumed.stderr
    same(metrics(tmp_path / "run")[:6], alone)


@pytest.mark.slow
def test_two_killed_ranks_resume_bit_for_bit_and_rank_0_is_told_of_by_the_other(
    alone: list[tuple[int, dict[str, float]]], tiny_policy: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert launch(write_config(whole, tiny_policy, **QUICK), "train.ranks=2").returncode == 0
    same(metrics(whole / "run"), alone)
    config = write_config(broken, tiny_policy, **QUICK)
    run = start(config, "train.ranks=2", "train.steps=6")
    said, took = kill(run, run.pid)
    assert run.returncode == -signal.SIGKILL and took < 30
    assert f"error: the run cannot go on: rank 0 of 2 (process {run.pid} on " in said
    assert launch(config, "--resume").returncode == 0
    assert metrics(broken / "run") == metrics(whole / "run")


@pytest.mark.slow
def test_what_one_rank_began_two_go_on_with(
    alone: list[tuple[int, dict[str, float]]], alone_folder: Path, tmp_path: Path
) -> None:
    """From the checkpoint of step 4 of 6, as a kill after the next step would leave it."""
    folder = tmp_path / "run"
    shutil.copytree(alone_folder / "run", folder)
    for later in ("checkpoints/step-000006", "policy"):
        shutil.rmtree(folder / later)
    assert (folder / "checkpoints" / "step-000004").is_dir()
    resumed = launch(folder / "config.yaml", "--resume", "train.ranks=2")
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(folder)[:4] == alone[:4]
    same(metrics(folder), alone)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
def test_torchrun(stage: int, alone: list[tuple[int, dict[str, float]]], tiny_policy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_policy, **QUICK)
    zero = f"train.zero_stage={stage}"
    run = start(config, zero, "train.steps=500", program=TORCHRUN)
    second = next(one for one in ranks_of(run) if one.environ().get("RANK") == "1")
    said, took = kill(run, second.pid)
    assert run.returncode != 0 and took < 30
    assert f"error: the run cannot go on: rank 1 of 2 (process {second.pid} on " in said
    steps = max(6, len(metrics(tmp_path / "run")))
    again = launch(config, "--resume", f"train.steps={steps}", program=TORCHRUN)
    assert again.returncode == 0, again.stderr
    same(metrics(tmp_path / "run")[:6], alone)


@pytest.mark.slow
def test_vllm_samples_beside_two_ranks(tiny_policy: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    sections = {**QUICK, "rollout": {"engine": "vllm", "group_size": 4}}
    done = launch(write_config(tmp_path, tiny_policy, **sections), "train.ranks=2", "train.steps=3")
    assert done.returncode == 0, done.stderr
    rows = [row for _, row in metrics(tmp_path / "run")]
    assert len(rows) == 3 and all(row["mismatch"] < 1e-5 and row["sync_mismatch"] < 1e-4 for row in rows)
