"""Two gloo ranks in two processes learn exactly what one process learns, at every ZeRO stage, and from one another's
checkpoints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rl.trainer.trainer_case import everything, make_answers, make_batch, make_trainer, weights

pytestmark = pytest.mark.timeout(900)  # 20 s on a free box, minutes where the cores are taken

# Different splits on purpose: 4 + 3 samples in micro-batches of 2 against one batch of 7.
CUT: dict[str, Any] = {"micro_batch": 2, "grad_clip": 0.5}
EXACT = [{"zero_stage": stage, **CUT} for stage in (0, 1, 2, 3)]
JOBS = EXACT + [{"zero_stage": stage, "dtype": "bfloat16", **CUT} for stage in (1, 3)]
EVERYTHING = {"zero_stage": 1, **CUT, "everything": True}
KINDS = {"zero_stage": 1, **CUT, "kinds": True}


def jobs(of: list[dict[str, Any]]) -> pytest.MarkDecorator:
    names = [f"zero{job['zero_stage']}-{job.get('dtype', 'float32')}" for job in of]
    return pytest.mark.parametrize("job", range(len(of)), ids=names)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All jobs in one pair of processes: starting them takes longer than the updates. Beside it what they saved."""
    out = tmp_path_factory.mktemp("ranks") / "result"
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parents[2]), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(here / "rank_worker.py"), json.dumps([*JOBS, EVERYTHING, KINDS]), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def together(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = torch.load(out)
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """The same two updates (and a third) in this process, in one micro-batch and without ZeRO."""
    trainer = make_trainer(zero_stage=0, micro_batch=64, grad_clip=0.5)
    batch = make_batch(trainer, size=7)
    metrics = [trainer.update(batch) for _ in range(3)]
    return {"old_logprobs_BT": batch.old_logprobs_BT, "metrics": metrics, "weights": weights(trainer)}


@jobs(EXACT)
def test_two_ranks_change_nothing_but_float_noise(
    together: list[dict[str, Any]], alone: dict[str, Any], job: int
) -> None:
    found = together[job]
    torch.testing.assert_close(found["old_logprobs_BT"], alone["old_logprobs_BT"], atol=1e-5, rtol=1e-5)
    assert found["metrics"][0]["ratio_deviation"] == 0.0
    for theirs, mine in zip([*found["metrics"], found["third"]], alone["metrics"], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-3, abs=1e-5)
    assert found["weights"].keys() == alone["weights"].keys()
    for name, value in alone["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, atol=5e-6, rtol=1e-4)


@jobs(JOBS)
def test_as_many_ranks_resume_bit_equal(together: list[dict[str, Any]], job: int) -> None:
    assert together[job]["resumed_third"] == together[job]["third"]


@jobs(JOBS)
def test_one_process_goes_on_from_what_two_ranks_saved(together: list[dict[str, Any]], out: Path, job: int) -> None:
    """At another ZeRO stage, too: 0 from 3, 1 from 0, 2 from 1, 3 from 2; 2 in bfloat16."""
    half = JOBS[job].get("dtype") == "bfloat16"
    trainer = make_trainer(**(JOBS[job] | {"zero_stage": 2} if half else EXACT[(job + 1) % len(EXACT)]))
    batch = make_batch(trainer, size=7)
    trainer.load(out.with_name(f"state-{job}"))
    assert trainer.version == 2
    near = {"rel": 0.1, "abs": 0.02} if half else {"rel": 1e-3, "abs": 1e-5}
    assert trainer.update(batch) == pytest.approx(together[job]["third"], **near)
    for name, value in weights(trainer).items():
        bounds = {"atol": 2e-3, "rtol": 0.02} if half else {"atol": 5e-6, "rtol": 1e-4}
        torch.testing.assert_close(value, together[job]["weights"][name], **bounds)


def test_whole_samples_slow_copies_and_a_held_entropy_are_the_same_on_two_ranks(
    together: list[dict[str, Any]], out: Path
) -> None:
    found, (objective, copies) = together[-2], everything()
    trainer = make_trainer(objective=objective, copies=copies, micro_batch=64, grad_clip=0.5)
    batch = make_batch(trainer, size=7)
    metrics = [trainer.update(batch) for _ in range(3)]
    for theirs, mine in zip([*found["metrics"], found["third"]], metrics, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-3, abs=1e-5)
    assert metrics[2]["kl"] > 0 and metrics[2]["drift"] > 0 and metrics[2]["entropy_coefficient"] > 0
    for name, value in weights(trainer).items():
        torch.testing.assert_close(found["weights"][name], value, atol=5e-6, rtol=1e-4)
    torch.testing.assert_close(found["slow"], trainer.forward(batch, copy="ema").logprobs_BT, atol=1e-5, rtol=1e-4)
    assert found["resumed_third"] == found["third"]  # bit-equal: weights, both copies, the coefficient
    objective, copies = everything()
    alone = make_trainer(objective=objective, copies=copies, micro_batch=64, grad_clip=0.5)
    make_batch(alone, size=7)
    alone.load(out.with_name(f"state-{len(JOBS)}"))
    assert alone.update(batch) == pytest.approx(found["third"], rel=1e-3, abs=1e-5)


def test_two_ranks_share_pictures_and_answers_of_one_update(together: list[dict[str, Any]]) -> None:
    trainer = make_trainer(zero_stage=0, micro_batch=64, grad_clip=0.5)
    batch = make_batch(trainer, size=7)
    for _ in range(2):
        trainer.update(batch)
    both = trainer.update(batch, answer=replace(make_answers(trainer), weight=0.5))
    assert together[-1]["both"] == pytest.approx(both, rel=1e-3, abs=1e-5)
    for name, value in weights(trainer).items():
        torch.testing.assert_close(together[-1]["weights"][name], value, atol=5e-6, rtol=1e-4)
