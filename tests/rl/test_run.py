"""The whole run: it finishes, it survives being killed, it says what is wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rl.run_folder.claim import is_free
from rl.tracking.groups import read_groups
from tests.rl.run_case import ROOT, STEPS, command, environment, launch, metrics, write_config

KILLED = (str(ROOT / "tests" / "rl" / "run_folder" / "killed_launch.py"),)


@pytest.fixture(scope="module")
def uninterrupted(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = launch(write_config(folder, tiny_policy))
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_leaves_everything_a_user_needs(uninterrupted: Path) -> None:
    assert [step for step, _ in metrics(uninterrupted)] == list(range(STEPS))
    names = {path.name for path in uninterrupted.iterdir()}
    assert {
        *("config.yaml", "environment.json", "metrics.jsonl", "report.html", "checkpoints", "policy"),
        *("evaluation-0.json", "evaluation-3.json", "evaluation-6.json", "evaluation-6.png"),
    } <= names
    assert sorted(p.name for p in (uninterrupted / "checkpoints").iterdir()) == ["step-000004", "step-000006"]


def test_the_policy_learned_and_stayed_on_policy(uninterrupted: Path) -> None:
    rows = [row for _, row in metrics(uninterrupted)]
    assert all(row["grad_norm"] > 0 for row in rows)
    assert all(row["mismatch"] < 1e-5 and row["sync_mismatch"] < 1e-4 for row in rows)
    assert [row["policy_version"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["kl"] == 0.0 and rows[-1]["kl"] > 0.0
    assert rows[0]["ratio_mean"] == pytest.approx(1.0, abs=1e-6)


def test_the_exported_policy_is_the_trained_one(uninterrupted: Path, tiny_policy: Path) -> None:
    from policy.base import Policy

    before, after = Policy.load(tiny_policy), Policy.load(uninterrupted / "policy")
    changed = [
        not value.equal(after.ar.state_dict()[name])
        for name, value in before.ar.state_dict().items()
        if "norm" not in name
    ]
    assert any(changed)
    assert "# run\n" in (uninterrupted / "policy" / "README.md").read_text()  # a card of its own
    for name, value in before.decoder.state_dict().items():
        assert value.equal(after.decoder.state_dict()[name])


@pytest.mark.parametrize("point", ["first", "step", "checkpoint", "evaluation"])
def test_a_killed_run_resumes_bit_for_bit(point: str, uninterrupted: Path, tiny_policy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_policy)
    killed = launch(point, config, program=KILLED)
    assert killed.returncode == -signal.SIGKILL
    if point == "checkpoint":
        assert (tmp_path / "run" / "checkpoints" / ".tmp-step-000004").is_dir()
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(tmp_path / "run") == metrics(uninterrupted)
    for step in (0, 3, 6):
        name = f"evaluation-{step}.json"
        assert json.loads((tmp_path / "run" / name).read_text()) == json.loads((uninterrupted / name).read_text())


def test_a_resume_that_dies_before_its_first_step_takes_no_row_away(
    uninterrupted: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    """Four steps are in the log and two in a checkpoint; the rows beyond it stay until others replace them."""
    config, log = write_config(tmp_path, tiny_policy), tmp_path / "run" / "metrics.jsonl"
    assert launch("checkpoint", config, program=KILLED).returncode == -signal.SIGKILL
    before = log.read_bytes()
    assert before.count(b"\n") == 4
    again = launch("collecting step 3", config, "--resume", program=KILLED)
    assert again.returncode == -signal.SIGKILL, again.stderr
    assert log.read_bytes() == before
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(tmp_path / "run") == metrics(uninterrupted)


def test_ctrl_c_saves_and_resumes_bit_for_bit(uninterrupted: Path, tiny_policy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_policy)
    run = subprocess.Popen(
        command(config), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "interrupted: finishing this step and saving a checkpoint" in out
    done = len(metrics(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{done:06d}").is_dir()
    (hint,) = re.findall(rf"stopped after {done} steps; go on with: python -m rl.launch (\S+) --resume", out)
    assert launch(hint, "--resume").returncode == 0
    assert metrics(tmp_path / "run") == metrics(uninterrupted)


def test_resuming_a_finished_run_says_so(uninterrupted: Path, tiny_policy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_policy)
    again = launch(config, "--resume", f"run.folder={uninterrupted}")
    assert again.returncode == 0
    assert "this run is finished (6 of 6 steps); raise train.steps to go on" in again.stdout


def test_a_folder_with_another_run_is_refused(uninterrupted: Path, tiny_policy: Path, tmp_path: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    refused = launch(write_config(tmp_path, tiny_policy), f"run.folder={uninterrupted}")
    assert refused.returncode == 2
    assert "already holds a run; pass --resume to go on with it, or give this run a folder of its own" in refused.stderr
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before


def test_a_resumed_run_must_keep_its_configuration(uninterrupted: Path, tiny_policy: Path, tmp_path: Path) -> None:
    refused = launch(write_config(tmp_path, tiny_policy), "--resume", f"run.folder={uninterrupted}", "train.lr=0.5")
    assert refused.returncode == 2
    assert "these keys differ: train.lr (was 0.001, now 0.5)" in refused.stderr


def test_nothing_to_resume_is_said(tiny_policy: Path, tmp_path: Path) -> None:
    refused = launch(write_config(tmp_path, tiny_policy), "--resume")
    assert refused.returncode == 2
    assert "holds no run to resume; start it without --resume" in refused.stderr


def test_an_engine_with_stale_weights_stops_the_run(tiny_policy: Path, tmp_path: Path) -> None:
    stopped = launch(write_config(tmp_path, tiny_policy), "sync.enabled=false")
    assert stopped.returncode == 3
    assert "its weights are stale" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_two_rewards_routed_scaled_and_combined_by_gdpo(tiny_policy: Path, tmp_path: Path) -> None:
    rewards = {
        "ink": {"use": "tests.rl.run_case:ink"},
        "green": {"use": "tests.rl.run_case:green", "weight": 0.5, "scale": [0, 255], "tags": ["colors", "counting"]},
    }
    config = write_config(
        tmp_path, tiny_policy, rewards=rewards, combine="gdpo", advantage="batch_norm",
        train={"steps": 2, "lr": 1e-3, "warmup_steps": 0}, eval={"at_start": False, "at_end": False, "every": 0},
        tracking={"console": "plain", "to": [], "pictures_every": 1},
    )  # fmt: skip
    done = launch(config)
    assert done.returncode == 0, done.stderr
    for step, row in metrics(tmp_path / "run"):
        assert 0 < row["score"] < 1  # the weighted mean; gdpo's own totals have mean 0
        assert row["zero_std_fraction"] == 0 and row["loss"] == row["loss"]
        assert row["grad_norm"] > 0
        shown = (tmp_path / "run" / "pictures" / f"train-{step:06d}.jsonl").read_text().splitlines()
        for verdict in map(json.loads, shown):
            assert verdict["ink"]["value"] is not None
            assert (verdict["green"]["value"] is not None) == (verdict["tag"] in ("colors", "counting"))
        groups = read_groups(tmp_path / "run" / "pictures" / f"groups-{step:06d}.png")
        assert [len(group) for group in groups] == [4, 4]
        assert all(one.score is not None and one.advantage is not None for group in groups for one in group)
        assert {*groups[0][0].rewards} == {"ink", "green"}


def test_a_dead_reward_stops_before_the_first_step(tiny_policy: Path, tmp_path: Path) -> None:
    stopped = launch(write_config(tmp_path, tiny_policy, reward="tests.rl.run_case:dead"))
    assert stopped.returncode == 2
    assert "rewards.ink: the golden probe found it dead or wrong: on its reference picture 'black' it scores 0" in (
        stopped.stderr
    )
    assert not list((tmp_path / "run").glob("evaluation-*")) and "step 1/" not in stopped.stdout


def test_a_decoder_that_cannot_paint_is_a_sentence_before_anything_expensive(tiny_policy: Path, tmp_path: Path) -> None:
    """Its traceback stays in the log, and the folder is as free as before."""
    render = {"steps": 2, "sampler": {"use": "tests.rl.run_case:lost_in_the_flow"}}
    stopped = launch(write_config(tmp_path, tiny_policy, render=render))
    assert stopped.returncode == 2
    assert "error: before the first step, while painting: IndexError: no way through the flow (run_case.py:" in (
        stopped.stderr
    )
    assert f"the traceback is in {tmp_path / 'run' / 'log.txt'}" in stopped.stderr and "Traceback" not in stopped.stderr
    assert "IndexError: no way through the flow" in (tmp_path / "run" / "log.txt").read_text()
    assert not list((tmp_path / "run").glob("evaluation-*")) and is_free(tmp_path / "run")


def test_a_constant_reward_without_reference_pictures_stops_after_the_first_evaluation(
    tiny_policy: Path, tmp_path: Path
) -> None:
    data = {
        "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4}},
        "eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 6}},
        "prompts_per_step": 3,
    }
    stopped = launch(write_config(tmp_path, tiny_policy, reward="tests.rl.run_case:constant", data=data))
    assert stopped.returncode == 2
    assert (
        "rewards.ink gives 0.25 to all of the first 36 pictures: it is dead or constant, and nothing can be learned "
        "from it; repair it, give it a `golden()` that shows it alive, or set rewards.ink.probe=false"
    ) in stopped.stderr
    assert not metrics(tmp_path / "run") and "Traceback" not in stopped.stderr


def test_failing_rewards_stop_the_run_and_are_never_zero(tiny_policy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny_policy, reward="tests.rl.run_case:late", eval={"at_start": False})
    stopped = launch(config)
    assert stopped.returncode == 2
    assert "rewards.ink failed on 6 of 12 samples (reward_pool.max_failed_fraction is 0.05): " in stopped.stderr
    assert [row["score"] for _, row in metrics(tmp_path / "run")] == [0.5]
    hint = f"; step 1 is saved, go on from step 2 with: python -m rl.launch {tmp_path}/run/config.yaml --resume\n"
    assert stopped.stderr.endswith(hint) and "traceback" not in stopped.stderr
    assert (tmp_path / "run" / "checkpoints" / "step-000001").is_dir()  # one is due every two steps
