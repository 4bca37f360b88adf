"""Overlap as predicted: a step takes max(the slowest stage, one step alone / (staleness + 1))."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.rl.cluster.test_ahead import ahead, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_HERE = "tests.rl.cluster.paced"
_SECONDS = 1.5  # of each stage: sampling, painting and update share a step evenly
_STEPS = 10


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
        for staleness in (0, 1, 2)
    }
    print(took)
    alone = took[0]
    assert alone == pytest.approx(3 * _SECONDS, rel=0.25)  # what is computed besides
    for staleness in (1, 2):
        assert took[staleness] == pytest.approx(max(_SECONDS, alone / (staleness + 1)), rel=0.15)
