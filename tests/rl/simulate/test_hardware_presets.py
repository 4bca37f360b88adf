"""The presets of hardware are what the simulation recommends, and it runs each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rl
from rl.config.load import load
from rl.simulate.__main__ import main
from rl.simulate.bounds import WorkerSplit, best_split
from rl.simulate.costs import H100, read_costs
from rl.simulate.findings import scorers
from rl.simulate.workload import Workload

ROOT = Path(rl.__file__).parent.parent
WORKERS = {"gpu1": 1, "node8": 8, "nodes4": 32}


def a_run(preset: str, folder: Path) -> Path:
    parts = [ROOT / "examples/blip3o_next/geneval.yaml", ROOT / f"configs/hardware/{preset}.yaml"]
    run = folder / f"{preset}.yaml"
    size = f"data: {{prompts_per_step: {4 * WORKERS[preset]}}}\nrender: {{guidance: 1.0}}\n"  # 64 pictures a GPU
    run.write_text(f"extends: [{', '.join(map(str, parts))}]\n{size}")
    return run


@pytest.mark.parametrize(("preset", "told"), [("node8", (1, 6, 1)), ("nodes4", (3, 26, 3))])
def test_a_preset_is_the_best_split_of_its_gpus(preset: str, told: tuple[int, int, int], tmp_path: Path) -> None:
    config, workers = load(a_run(preset, tmp_path)), WORKERS[preset]
    own = WorkerSplit(config.cluster.samplers, config.cluster.painters, config.cluster.trainers, scorers(workers))
    assert (own.samplers, own.painters, own.trainers) == told and own.workers == workers
    work = Workload.of(config, read_costs(H100))
    assert own == best_split(work, workers, scorers(workers), config.loop.staleness)
    assert config.loop.ahead and config.loop.staleness == 2


def test_with_fewer_decoder_steps_another_split_is_best(tmp_path: Path) -> None:
    work = Workload.of(load(a_run("node8", tmp_path), ["render.steps=10"]), read_costs(H100))
    assert str(best_split(work, 8, scorers(8), 2)) == "2:4:2"


def test_one_gpu_takes_turns(tmp_path: Path) -> None:
    config = load(a_run("gpu1", tmp_path))
    assert (config.loop.ahead, config.train.ranks, config.rollout.sleep) == (False, 1, 2)
    assert config.rollout.engine == "vllm"


@pytest.mark.parametrize(("preset", "seconds", "in_turns"), [("node8", 24.8, 29.9), ("nodes4", 22.8, 29.9)])
def test_the_simulation_says_what_a_preset_says(
    preset: str, seconds: float, in_turns: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, workers = a_run(preset, tmp_path), WORKERS[preset]
    assert main([str(run), "--workers", str(workers), "--out", str(tmp_path / "out")]) == 0
    assert "derived, not measured" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "simulation.json").read_text())["rows"]
    assert (row["step_seconds"], row["time_shared_seconds"]) == pytest.approx((seconds, in_turns), abs=0.1)
    text = (ROOT / f"configs/hardware/{preset}.yaml").read_text()
    assert "DERIVED, not measured" in text and f"{seconds} s a step, {in_turns} if all took turns" in text


def test_the_simulation_runs_that_of_one_gpu(tmp_path: Path) -> None:
    assert main([str(a_run("gpu1", tmp_path)), "--workers", "3", "--steps", "12", "--out", str(tmp_path / "out")]) == 0
