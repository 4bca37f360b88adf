"""Two gloo ranks in two processes learn exactly what one process learns, at every ZeRO stage."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rl.trainer.trainer_case import make_batch, make_trainer, weights

pytestmark = pytest.mark.timeout(900)  # 40 s on a free box, minutes where the cores are taken

# Different splits on purpose: 4 + 3 samples in micro-batches of 2 against one batch of 7.
JOBS = [{"zero_stage": stage, "micro_batch": 2, "grad_clip": 0.5} for stage in (0, 1, 2, 3)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Results per rank and job. All jobs in one pair of processes: starting them takes longer than the updates."""
    out = tmp_path_factory.mktemp("ranks") / "result"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Path(__file__).parent
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    launch["PYTHONPATH"] = os.pathsep.join([str(here.parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(here / "rank_worker.py"), json.dumps(JOBS), str(out)]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | launch | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        logs = [process.communicate(timeout=800)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(logs)
    return [torch.load(out.with_name(f"result-{rank}")) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """The same two updates (and a third) in this process, in one micro-batch and without ZeRO."""
    trainer = make_trainer(zero_stage=0, micro_batch=64, grad_clip=0.5)
    batch = make_batch(trainer, size=7)
    metrics = [trainer.update(batch) for _ in range(3)]
    return {"old_logprobs_BT": batch.old_logprobs_BT, "metrics": metrics, "weights": weights(trainer)}


@pytest.mark.parametrize("job", range(len(JOBS)), ids=lambda job: f"zero{JOBS[job]['zero_stage']}")
def test_two_ranks_change_nothing_but_float_noise(
    ranks: list[list[dict[str, Any]]], alone: dict[str, Any], job: int
) -> None:
    for rank in range(2):
        found = ranks[rank][job]
        torch.testing.assert_close(found["old_logprobs_BT"], alone["old_logprobs_BT"], atol=1e-5, rtol=1e-5)
        assert found["metrics"][0]["ratio_deviation"] == 0.0
        for theirs, mine in zip([*found["metrics"], found["third"]], alone["metrics"], strict=True):
            assert theirs == pytest.approx(mine, rel=1e-3, abs=1e-5)
        assert found["weights"].keys() == alone["weights"].keys()
        for name, value in alone["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("job", range(len(JOBS)), ids=lambda job: f"zero{JOBS[job]['zero_stage']}")
def test_two_ranks_agree_and_resume_bit_equal(ranks: list[list[dict[str, Any]]], job: int) -> None:
    first, second = ranks[0][job], ranks[1][job]
    assert first["metrics"] == second["metrics"]
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name])
    assert first["resumed_third"] == first["third"]
