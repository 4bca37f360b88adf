"""Whole runs whose own process holds no weights: the same numbers, on any number of ranks, whoever of them dies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.rl.cluster.test_ahead import CHANGES, ahead, evaluations, nobody_is_left
from tests.rl.run_case import launch, metrics, write_config

# a cluster takes 10 s to start and each run of it half a minute: much more where the cores are busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
_HERE = "tests.rl.cluster.training.dying_loss"
SMALL = {**CHANGES, "data": {**CHANGES["data"], "prompts_per_step": 2}, "eval": {"every": 2, "grid": 0}}
NO_EVAL = {**SMALL["data"], "eval": None}


def run(folder: Path, policy: Path, *more: Sequence[str], **changes: Any) -> Path:
    """A finished run's folder; ``more``: what it is resumed with, one after another."""
    folder.mkdir()
    config = write_config(folder, policy, **{**SMALL, **changes})
    said = []
    for given in ((), *(("--resume", *one) for one in more)):
        done = launch(config, *given)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    (folder / "run" / "said.txt").write_text("\n".join(said))
    return folder / "run"


def weights(run_folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(run_folder / "policy" / "ar" / "model.safetensors")


def train(steps: int, **more: Any) -> dict[str, Any]:
    # eps far above the noise of summing in another order, or Adam would make much of it
    return {**CHANGES["train"], "steps": steps, "schedule": "constant", "eps": 1e-4, **more}


def test_a_trainer_elsewhere_gives_the_numbers_of_one_in_the_runs_process(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    changes = {"train": train(3, updates_per_rollout=2, warmup_steps=4), "kl": {"use": "k3", "options": {"beta": 0.01}}}
    here = run(tmp_path / "here", tiny_policy, **changes, **ahead(address, 1))
    there = run(tmp_path / "there", tiny_policy, **changes, **ahead(address, 1, trainers=1))
    assert metrics(there) == metrics(here)
    assert evaluations(there) == evaluations(here) != []
    files = [(one / "policy" / "ar" / "model.safetensors").read_bytes() for one in (here, there)]
    assert files[0] == files[1]
    nobody_is_left(address)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_number_of_trainers_does_not_matter_and_may_change(
    stage: int, address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    """In turn with the updates, so that a resume begins at the last checkpoint and not before."""
    changes = {"data": NO_EVAL, **ahead(address, 0, trainers=2)}
    sums = {"zero_stage": stage, "micro_batch": 3}  # of eight rows: 3 + 3 + 2, or 3 + 1 on each of two
    alone = run(tmp_path / "one", tiny_policy, **{**changes, **ahead(address, 0, trainers=1)}, train=train(3, **sums))
    several = run(
        tmp_path / "several",
        tiny_policy,
        ["train.steps=2", "cluster.trainers=1"],
        ["train.steps=3", "cluster.trainers=2"],
        **changes,
        train=train(1, **sums),
    )
    assert [step for step, _ in metrics(several)] == [0, 1, 2]
    for (_, found), (_, expected) in zip(metrics(several), metrics(alone), strict=True):
        assert found == pytest.approx(expected, abs=5e-4)  # some pixels round to another value
    for name, value in weights(several).items():
        np.testing.assert_allclose(value, weights(alone)[name], atol=5e-5, rtol=0)  # of 3e-3


def test_a_rank_killed_in_the_middle_of_an_update_changes_nothing(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    """Behind the first checkpoint: one step is learnt again, then the one that was cut off."""
    changes = {"data": NO_EVAL, "checkpoint": {"every": 2}, "train": train(4, micro_batch=2)}
    changes |= ahead(address, 1, trainers=2)
    undisturbed = run(tmp_path / "undisturbed", tiny_policy, **changes)
    options = {"marker": str(tmp_path / "died"), "rank": 1, "call": 10}  # the rehearsal has two, each step two
    disturbed = run(tmp_path / "disturbed", tiny_policy, **changes, loss={"use": f"{_HERE}:dying", "options": options})
    assert (tmp_path / "died").exists()
    said = (disturbed / "said.txt").read_text()
    assert "trainer rank 1 of 2" in said and "died (ActorDiedError" in said
    assert "all ranks are started again, from the checkpoint of step 2, 1 step learnt again" in said
    assert "the trainer started again 1 time" in said
    assert metrics(disturbed) == metrics(undisturbed)
    files = [(one / "policy" / "ar" / "model.safetensors").read_bytes() for one in (undisturbed, disturbed)]
    assert files[0] == files[1]
    rows = [json.loads(line) for line in (disturbed / "cluster.jsonl").read_text().splitlines()]
    assert [row["counts"].get("trainer restarts", 0) for row in rows] == [0, 0, 0, 1]


def test_a_rank_that_stands_still_is_found_and_too_many_restarts_end_the_run(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    """A minute, for a machine whose cores are busy."""
    options = {"marker": str(tmp_path / "stood"), "rank": 0, "call": 4}
    (tmp_path / "run").mkdir()
    config = write_config(
        tmp_path,
        tiny_policy,
        **{**SMALL, "data": NO_EVAL, "train": train(3, micro_batch=2)},
        loss={"use": f"{_HERE}:standing", "options": options},
        **ahead(address, 0, trainers=2, trainer_restarts=0, timeout_s=60),
    )
    done = launch(config)
    assert done.returncode == 3
    assert "error: the run cannot go on: trainer rank 0 of 2 (process " in done.stderr
    assert "got nowhere for 60 s, and the trainers were started again 0 times already" in done.stderr
    assert "--resume" in done.stderr
    nobody_is_left(address)
