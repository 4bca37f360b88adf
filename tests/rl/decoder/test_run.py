"""Runs in which the decoder learns, alone and beside the language model: weights move, a kill changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from policy.base import Policy
from rl.milestones import restore
from rl.run_folder.checkpoint import Checkpoint
from rl.types import UserError
from tests.rl.decoder.decoder_case import DECODER, WINDOW
from tests.rl.run_case import ROOT, launch, metrics, write_config
from tests.rl.test_ranks import same

KILLED = (str(ROOT / "tests" / "rl" / "run_folder" / "killed_launch.py"),)
COPIES = {**DECODER, "decoder": {**DECODER["decoder"], "old": "nft", "ema": 0.9, "updates_per_rollout": 3}}


def moved(before: Path, after: Path) -> dict[str, bool]:
    """Part of a policy -> whether training has changed its weights."""
    old, new = Policy.load(before), Policy.load(after)
    pairs = {
        "ar": (old.ar, new.ar),
        "connector": (old.decoder.connector, new.decoder.connector),
        "transformer": (old.decoder.transformer, new.decoder.transformer),
        "vae": (old.decoder.vae, new.decoder.vae),
    }
    return {
        name: any(not torch.equal(one.state_dict()[key], value) for key, value in other.state_dict().items())
        for name, (one, other) in pairs.items()
    }


@pytest.mark.parametrize(
    ("sections", "point"),
    [(COPIES, "decoder's second update of step 3"), (WINDOW, "step")],
    ids=["nft with copies", "window"],
)
def test_a_decoder_alone_learns_and_a_killed_run_resumes_bit_for_bit(
    sections: dict[str, Any], point: str, tiny_policy: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    done = launch(write_config(whole, tiny_policy, **sections))
    assert done.returncode == 0, done.stderr
    assert moved(tiny_policy, whole / "run" / "policy") == {
        "ar": False, "connector": True, "transformer": True, "vae": False,
    }  # fmt: skip
    rows = [row for _, row in metrics(whole / "run")]
    updates = sections["decoder"].get("updates_per_rollout", 1)
    assert [row["decoder/policy_version"] for row in rows] == [updates * (step + 1) for step in range(5)]
    assert all(row["decoder/grad_norm"] > 0 for row in rows) and not any("grad_norm" in row for row in rows)
    assert all(row.get("decoder/ratio_deviation", 0.0) == 0 for row in rows)  # one update per rollout in the window
    config = write_config(broken, tiny_policy, **sections)
    assert launch(point, config, program=KILLED).returncode == -signal.SIGKILL
    assert [step for step, _ in metrics(broken / "run")] == [0, 1, 2]
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(broken / "run") == metrics(whole / "run")


JOINT: dict[str, Any] = {
    **DECODER,
    "trainers": ["ar", "decoder"],
    "rollout": {"engine": "torch", "group_size": 2},
    "train": {"steps": 4, "lr": 1e-3, "warmup_steps": 1, "micro_batch": 5},
    "decoder": {**DECODER["decoder"], "lora": {"rank": 4}, "train": "transformer", "ema": 0.5},
    "anchor": {"use": "condition", "options": {"beta": 0.1}},
}


def test_a_decoder_follows_the_language_model_that_the_same_step_has_updated(tiny_policy: Path, tmp_path: Path) -> None:
    following = {**DECODER["decoder"], "follow": True}
    sections = {**JOINT, "train": {**JOINT["train"], "steps": 2, "warmup_steps": 0}, "decoder": following}
    done = launch(write_config(tmp_path, tiny_policy, **sections))
    assert done.returncode == 0, done.stderr
    rows = [row for _, row in metrics(tmp_path / "run")]
    assert [row["learns/ar"] + row["learns/decoder"] for row in rows] == [2, 2]
    assert all(row["decoder/old_deviation"] > 0 for row in rows)  # of one update: 0 where nobody has moved


@pytest.mark.slow
def test_two_ranks_train_both_networks_as_one_does(tiny_policy: Path, tmp_path: Path) -> None:
    runs = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = launch(write_config(folder, tiny_policy, **JOINT), f"train.ranks={ranks}", "decoder.old=nft")
        assert done.returncode == 0, done.stderr
        runs.append(metrics(folder / "run"))
    same(*runs)
    assert runs[0][-1][1]["policy_version"] == runs[0][-1][1]["decoder/policy_version"] == 4
    assert moved(tiny_policy, tmp_path / "2" / "run" / "policy") == {
        "ar": True, "connector": False, "transformer": True, "vae": False,
    }  # fmt: skip
    assert (tmp_path / "2" / "run" / "adapter-decoder" / "adapter_model.safetensors").is_file()


def test_a_checkpoint_of_other_trainers_is_refused(tmp_path: Path) -> None:
    for name in ("trainer", "trainer-decoder"):
        (tmp_path / name).mkdir()
    run: Any = SimpleNamespace(learner=SimpleNamespace(parts={"decoder": None}))
    saved = Checkpoint(tmp_path, 1, {"version": 1, "rng": {}})  # type: ignore[typeddict-item]
    with pytest.raises(UserError) as refused:
        restore(run, saved)
    assert str(refused.value) == (
        f"{tmp_path}: a checkpoint of trainers [ar, decoder], and this run has trainers [decoder]; resume with the "
        "same, or start a new run from its policy"
    )
