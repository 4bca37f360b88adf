"""Overlap as predicted: max(the slowest stage, one step alone / (staleness + 1)) where stages have machines of their
own, and what the simulator says where they share the cores of one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from rl.config.load import load
from rl.simulate.bounds import WorkerSplit
from rl.simulate.costs import costs_of_run
from rl.simulate.simulation import Simulation
from rl.simulate.workload import Workload
from tests.rl.cluster.test_ahead import ahead, run
from tests.rl.run_case import ROOT, launch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_HERE = "tests.rl.cluster.timing.paced"
_SECONDS = 1.5  # of each stage: sampling, painting and update share a step evenly
_STEPS = 12


def paced(address: str, staleness: int) -> dict[str, Any]:
    pace = {"seconds": _SECONDS}
    return {
        "rollout": {"engine": f"{_HERE}:PacedSampler", "group_size": 4, "options": pace},
        "render": {"steps": 1, "micro_batch": 16, "sampler": {"use": f"{_HERE}:paced_euler", "options": pace}},
        "terms": {"pace": {"use": f"{_HERE}:paced_term", "options": pace}},
        "train": {"steps": _STEPS, "lr": 1e-3, "warmup_steps": 2, "micro_batch": 16},
        "eval": {"at_start": False, "at_end": False, "every": 0},
        **ahead(address, staleness),
    }


def step_seconds(run_folder: Path, staleness: int) -> float:
    """In the middle of a run; steps come in bursts of ``staleness`` + 1."""
    rows = [json.loads(line)["seconds"] for line in (run_folder / "cluster.jsonl").read_text().splitlines()]
    burst = staleness + 1
    bursts = [sum(rows[at : at + burst]) / burst for at in range(burst, len(rows) - burst + 1, burst)]
    return median(bursts)


def test_each_step_ahead_hides_a_stage(address: str, tiny_policy: Path, tmp_path: Path) -> None:
    took = {
        staleness: step_seconds(run(tmp_path / str(staleness), tiny_policy, **paced(address, staleness)), staleness)
        for staleness in (0, 1, 2, 3)
    }
    print(took)
    alone = took[0]
    assert alone == pytest.approx(3 * _SECONDS, rel=0.25)  # what is computed besides
    for staleness in (1, 2, 3):
        assert took[staleness] == pytest.approx(max(_SECONDS, alone / (staleness + 1)), rel=0.15)


# all computed: 128 pictures of the example, one thread for each process
UNPACED = [
    "examples/geneval.yaml",
    "data.prompts_per_step=16",
    "rollout.hidden_states=trainer",
    "eval.at_start=false",
    "eval.at_end=false",
    "eval.every=0",
    "checkpoint.every=0",
    "tracking.to=[]",
    f"train.steps={_STEPS}",
]


def test_without_machines_of_their_own_a_step_takes_what_the_simulator_says(address: str, tmp_path: Path) -> None:
    """Its prices are a serial run's, its cores those of this machine, of which two may be one."""
    cores, config = cores_of_two(), load(ROOT / UNPACED[0], UNPACED[1:])
    finished(tmp_path / "serial")
    costs = costs_of_run(tmp_path / "serial", config.data.prompts_per_step * config.rollout.group_size)
    found = {}
    for staleness in (0, 2):
        work, split = Workload.of(config, costs), WorkerSplit(1, 1, 1, 1)
        said = Simulation(work, split, _STEPS, staleness, blocks=True, cores=cores).run().step_seconds(staleness)
        folder = tmp_path / f"ahead-{staleness}"
        turns = f"loop.in_turn={str(staleness == 0).lower()}"
        finished(folder, "loop=ahead", f"loop.staleness={staleness}", turns, f"cluster.address={address}")
        found[staleness] = (step_seconds(folder, staleness), said)
        print(f"staleness {staleness}, {cores:.2f} cores: {found[staleness][0]:.2f} s a step, simulated {said:.2f} s")
    for took, said in found.values():
        assert took == pytest.approx(said, rel=0.2)


def finished(folder: Path, *overrides: str) -> None:
    done = launch(*UNPACED, *overrides, f"run.folder={folder}")
    assert done.returncode == 0, done.stderr


def cores_of_two() -> float:
    """How much more two busy processes get done than one."""
    alone, both = (max(busy(count)) for count in (1, 2))
    return min(2.0, 2 * alone / both)


def busy(count: int) -> list[float]:
    """Seconds that so many processes need for the same sum, side by side."""
    work = "import time, torch; torch.set_num_threads(1); a = torch.ones(512, 512); a @ a; print(flush=True)\n"
    work += "input(); s = time.time()\n"
    work += "for _ in range(400): a @ a\nprint(time.time() - s)"
    ready = [
        subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for one in ready:
        assert one.stdout is not None
        one.stdout.readline()  # it has loaded
    for one in ready:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    return [float(one.communicate()[0]) for one in ready]
