"""Whole runs on Ray: the serial loop's numbers, the same whatever happens to workers, and none of them left behind."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.policy.editing import editing_policy
from tests.rl.decoder.decoder_case import DECODER
from tests.rl.run_case import ROOT, command, environment, launch, metrics, write_config

# a cluster takes 10 s to start and each run of it half a minute: much more where the cores are busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
_HERE = "tests.rl.cluster.dying"
CHANGES: dict[str, Any] = {
    "data": {
        "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4}},
        "eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 1}},
        "prompts_per_step": 4,
    },
    # blocks of two groups for the samplers, of one for the painters
    "rollout": {"engine": "torch", "group_size": 4, "hidden_states": "trainer", "options": {"max_num_seqs": 8}},
    "render": {"steps": 2, "micro_batch": 4},
    "train": {"steps": 5, "lr": 1e-3, "warmup_steps": 2, "micro_batch": 4},
    "eval": {"every": 3, "grid": 0},
    "checkpoint": {"every": 0},
}


def run(folder: Path, policy: Path, **changes: Any) -> Path:
    """A finished run's folder."""
    folder.mkdir()
    done = launch(write_config(folder, policy, **{**CHANGES, **changes}))
    assert done.returncode == 0, done.stderr
    (folder / "run" / "said.txt").write_text(done.stdout)
    return folder / "run"


def ahead(address: str, staleness: int, **cluster: int) -> dict[str, Any]:
    loop = {"use": "ahead", "staleness": staleness, "in_turn": staleness == 0}
    return {"loop": loop, "cluster": {"address": address, **cluster}}


def evaluations(run_folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(run_folder.glob("evaluation-*.json"))]


def test_in_turn_with_the_update_a_cluster_gives_the_serial_loops_numbers(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    # scores say what comes next, and how many samples each prompt gets
    drawn = {"data": {**CHANGES["data"], "curriculum": "failure"}, "groups": {"sizes": "knapsack", "unit": 2}}
    serial = run(tmp_path / "serial", tiny_policy, **drawn)
    workers = run(tmp_path / "workers", tiny_policy, **drawn, **ahead(address, 0))
    assert metrics(workers) == metrics(serial)
    assert [step for step, _ in metrics(workers)] == [0, 1, 2, 3, 4]
    assert evaluations(workers) == evaluations(serial) != []


def test_painters_see_the_pictures_that_are_to_be_changed(address: str, tmp_path: Path) -> None:
    """Drawings and edits, by a decoder whose eyes are random weights: without them it would paint something else."""
    policy = editing_policy(tmp_path / "policy", sees=True)
    tags = ["two_object", "edit_move", "edit_add"]
    data = {"train": {"use": "shapes", "options": {"split": "rl", "per_task": 4, "tags": tags}}, "eval": None}
    changes = {"data": {**CHANGES["data"], **data}, "train": {**CHANGES["train"], "steps": 3}}
    serial = run(tmp_path / "serial", policy, **changes)
    workers = run(tmp_path / "workers", policy, **changes, **ahead(address, 0))
    assert metrics(workers) == metrics(serial)


def test_workers_that_get_adapters_alone_give_the_serial_loops_numbers(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    changes = {"train": {**CHANGES["train"], "steps": 3, "lora": {"rank": 4}}}
    serial = run(tmp_path / "serial", tiny_policy, **changes)
    workers = run(tmp_path / "workers", tiny_policy, **changes, **ahead(address, 0))
    assert metrics(workers) == metrics(serial)
    assert evaluations(workers) == evaluations(serial) != []


@pytest.mark.parametrize("trainers", [["ar", "decoder"], ["decoder"]])
def test_where_the_trainer_paints_the_decoder_learns_as_in_a_serial_run(
    address: str, tiny_policy: Path, tmp_path: Path, trainers: list[str]
) -> None:
    """Nobody sends the trajectories that it learns from; of a decoder alone no sampler gets new weights."""
    changes: dict[str, Any] = {
        "trainers": trainers,
        "render": {**CHANGES["render"], "steps": 4, "renders": 2},
        "train": {**CHANGES["train"], "steps": 2},
        "decoder": DECODER["decoder"],
    }
    changes |= {"kl": None} if trainers == ["decoder"] else {}
    serial = run(tmp_path / "serial", tiny_policy, **changes)
    workers = run(tmp_path / "workers", tiny_policy, **changes, **ahead(address, 0, painters=0))
    assert metrics(workers) == metrics(serial)
    assert [found["decoder/policy_version"] for _, found in metrics(workers)] == [1, 2]
    assert evaluations(workers) == evaluations(serial) != []


def test_two_steps_ahead_numbers_repeat_whoever_makes_them_and_whoever_dies(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    undisturbed = run(tmp_path / "one", tiny_policy, **ahead(address, 2))
    rollout = {**CHANGES["rollout"], "engine": f"{_HERE}:DyingSampler"}
    rollout["options"] = {**rollout["options"], "marker": str(tmp_path / "sampler died")}
    painting = {"use": f"{_HERE}:dying_euler", "options": {"marker": str(tmp_path / "painter died")}}
    disturbed = run(
        tmp_path / "two",
        tiny_policy,
        rollout=rollout,
        render={**CHANGES["render"], "sampler": painting},
        **ahead(address, 2, samplers=2, painters=2),
    )
    assert (tmp_path / "sampler died").exists()
    assert (tmp_path / "painter died").exists()
    said = (disturbed / "said.txt").read_text()
    assert "sampler-" in said and "painter-" in said and said.count("died (ActorDiedError") >= 2
    assert metrics(disturbed) == metrics(undisturbed)
    assert evaluations(disturbed) == evaluations(undisturbed)
    versions = [found["policy_version"] for _, found in metrics(undisturbed)]
    assert versions == [1, 2, 3, 4, 5]
    nobody_is_left(address)


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(address: str, tiny_policy: Path, tmp_path: Path) -> None:
    """Between its second checkpoint and the steps that were begun before it: from the first one and the log, then."""
    data = {**CHANGES["data"], "eval": None, "curriculum": "failure"}
    changes = {"data": data, **ahead(address, 2), "checkpoint": {"every": 2}}
    changes["train"] = {**CHANGES["train"], "steps": 8}
    undisturbed = run(tmp_path / "whole", tiny_policy, **changes)
    folder = tmp_path / "killed"
    folder.mkdir()
    config = write_config(folder, tiny_policy, **{**CHANGES, **changes})
    kill_after(4, config, folder / "run")
    nobody_is_left(address)
    assert 4 <= len(metrics(folder / "run")) < 8
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "learnt again from" in resumed.stdout
    assert metrics(folder / "run") == metrics(undisturbed)
    weights = [(one / "policy" / "ar" / "model.safetensors").read_bytes() for one in (undisturbed, folder / "run")]
    assert weights[0] == weights[1]


def test_ranks_share_the_update_of_what_a_cluster_collects(address: str, tiny_policy: Path, tmp_path: Path) -> None:
    changes = {"data": {**CHANGES["data"], "eval": None}, **ahead(address, 1)}
    found = [
        metrics(run(tmp_path / str(ranks), tiny_policy, train={**CHANGES["train"], "eps": 1e-5, **more}, **changes))
        for ranks, more in ((1, {}), (2, {"ranks": 2}))
    ]
    for (step, alone), (again, shared) in zip(*found, strict=True):
        assert step == again
        assert shared == pytest.approx(alone, abs=1e-4)


def kill_after(steps: int, config: Path, run_folder: Path) -> None:
    """Without any warning, as soon as that many steps are in the log."""
    with subprocess.Popen(command(config), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as process:
        last = time.monotonic() + 240
        while not (log := run_folder / "metrics.jsonl").exists() or log.read_text().count("\n") < steps:
            assert process.poll() is None and time.monotonic() < last
            time.sleep(0.02)
        process.kill()


def nobody_is_left(address: str) -> None:
    """Workers end with their run."""
    last = time.monotonic() + 20
    while found := subprocess.run(["pgrep", "-f", "ray::_Actor"], capture_output=True, text=True, check=False).stdout:
        assert time.monotonic() < last, found
        time.sleep(0.5)
