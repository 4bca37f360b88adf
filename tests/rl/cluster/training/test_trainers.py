"""Whole runs whose own process holds no weights: the same numbers, on any number of ranks, whoever of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.rl.cluster.test_ahead import CHANGES, ahead, evaluations, nobody_is_left
from tests.rl.run_case import ROOT, command, environment, launch, metrics, write_config

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


def weights_file(run_folder: Path) -> Path:
    return run_folder / "policy" / "ar" / "model.safetensors"


def train(steps: int, **more: Any) -> dict[str, Any]:
    # eps far above the noise of summing in another order, or Adam would make much of it
    return {**CHANGES["train"], "steps": steps, "schedule": "constant", "eps": 1e-4, **more}


def in_turn(steps: int) -> dict[str, Any]:
    """Of eight rows in micro-batches of 3 + 3 + 2, or 3 + 1 on each of two ranks."""
    options = {"updates_per_rollout": 2, "warmup_steps": 4, "zero_stage": 2, "micro_batch": 3}
    return {"train": train(steps, **options), "kl": {"use": "k3", "options": {"beta": 0.01}}}


@pytest.fixture(scope="module")
def one_trainer(address: str, tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "there"
    return run(folder, tiny_policy, **in_turn(3), **ahead(address, 0, trainers=1))


AHEAD: dict[str, Any] = {"data": NO_EVAL, "checkpoint": {"every": 2}, "train": train(4, micro_batch=2)}


@pytest.fixture(scope="module")
def undisturbed(address: str, tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, one step ahead."""
    folder = tmp_path_factory.mktemp("two") / "undisturbed"
    return run(folder, tiny_policy, **AHEAD, **ahead(address, 1, trainers=2))


def test_with_a_trainer_on_ray_the_numbers_are_those_of_one_process(
    address: str, one_trainer: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    own = run(tmp_path / "own", tiny_policy, **in_turn(3), **ahead(address, 0))
    assert metrics(one_trainer) == metrics(own)
    assert evaluations(one_trainer) == evaluations(own) != []
    assert weights_file(one_trainer).read_bytes() == weights_file(own).read_bytes()
    nobody_is_left(address)


def test_the_number_of_trainers_may_change_from_start_to_start(
    address: str, one_trainer: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    """In turn with the updates, so that a resume begins at the last checkpoint and not before."""
    several = run(
        tmp_path / "several",
        tiny_policy,
        ["train.steps=2", "cluster.trainers=1"],
        ["train.steps=3", "cluster.trainers=2"],
        **in_turn(1),
        **ahead(address, 0, trainers=2),
    )
    found, expected = (learnt(one) for one in (several, one_trainer))
    assert [step for step, _ in found] == [0, 1, 2]
    for (_, theirs), (_, its) in zip(found, expected, strict=True):
        assert theirs == pytest.approx(its, abs=5e-4)  # some pixels round to another value
    files = [load_file(weights_file(one)) for one in (several, one_trainer)]
    for name, value in files[0].items():
        np.testing.assert_allclose(value, files[1][name], atol=5e-5, rtol=0)  # of 3e-3


def learnt(run_folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Without evaluations: at its end a run has one that a longer one has not."""
    return [
        (step, {name: value for name, value in row.items() if not name.startswith("eval")})
        for step, row in metrics(run_folder)
    ]


def test_a_rank_killed_in_the_middle_of_an_update_changes_nothing(
    address: str, undisturbed: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    """Behind the first checkpoint: one step is learnt again, then the one that was cut off."""
    options = {"marker": str(tmp_path / "died"), "rank": 1, "call": 10}  # the rehearsal has two, each step two
    loss = {"use": f"{_HERE}:dying", "options": options}
    disturbed = run(tmp_path / "disturbed", tiny_policy, **AHEAD, **ahead(address, 1, trainers=2), loss=loss)
    assert (tmp_path / "died").exists()
    said = (disturbed / "said.txt").read_text()
    assert "trainer rank 1 of 2" in said and "died (ActorDiedError" in said
    assert "all ranks are started again, from the checkpoint of step 2, 1 step learnt again" in said
    assert "the trainer started again 1 time" in said
    assert metrics(disturbed) == metrics(undisturbed)
    assert weights_file(disturbed).read_bytes() == weights_file(undisturbed).read_bytes()
    rows = [json.loads(line) for line in (disturbed / "cluster.jsonl").read_text().splitlines()]
    assert [row["counts"].get("trainer restarts", 0) for row in rows] == [0, 0, 0, 1]


def test_ctrl_c_in_the_middle_of_an_update_and_a_resume_change_nothing(
    address: str, undisturbed: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    """The third step is finished and saved. What was begun ahead of it is gone: the checkpoint before it and the log
    are gone on from."""
    marker, go = tmp_path / "in the middle", tmp_path / "go on"
    options = {"marker": str(marker), "go": str(go), "rank": 1, "call": 7}  # two of the rehearsal, two of each step
    changes = {**AHEAD, "loss": {"use": f"{_HERE}:waiting", "options": options}, **ahead(address, 1, trainers=2)}
    config = write_config(tmp_path, tiny_policy, **{**SMALL, **changes})
    code, said = interrupted(config, marker, go)
    assert code == 130, said
    assert "interrupted: finishing this step and saving a checkpoint" in said and "stopped after 3 steps" in said
    nobody_is_left(address)
    assert metrics(tmp_path / "run") == metrics(undisturbed)[:3]
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "learnt again from" in resumed.stdout
    assert metrics(tmp_path / "run") == metrics(undisturbed)
    assert weights_file(tmp_path / "run").read_bytes() == weights_file(undisturbed).read_bytes()


def interrupted(config: Path, marker: Path, go: Path) -> tuple[int, str]:
    """Ctrl-C as a terminal sends it, to the run and all that it has started; what it answers, and what it said."""

    def as_in_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # behind an ``&`` it would be ignored

    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(
        command(config),
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
        preexec_fn=as_in_a_terminal,
        **both,  # type: ignore[call-overload]
    ) as process:
        last = time.monotonic() + 240
        while not marker.exists():
            assert process.poll() is None and time.monotonic() < last
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        go.touch()
        said = process.communicate(timeout=300)[0]
    return process.returncode, said


def test_a_rank_that_stands_still_is_found_and_too_many_restarts_end_the_run(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    options = {"marker": str(tmp_path / "stood"), "rank": 0, "call": 4}
    (tmp_path / "run").mkdir()
    config = write_config(
        tmp_path,
        tiny_policy,
        **{**SMALL, "data": NO_EVAL, "train": train(3, micro_batch=2)},
        loss={"use": f"{_HERE}:standing", "options": options},
        **ahead(address, 0, trainers=2, trainer_restarts=0, timeout_s=30),
    )
    done = launch(config)
    assert done.returncode == 3
    assert "error: the run cannot go on: trainer rank 0 of 2 (process " in done.stderr
    assert "got nowhere for 30 s, and the trainers were started again 0 times already" in done.stderr
    assert "--resume" in done.stderr
    nobody_is_left(address)
