"""Runs in which the decoder learns, alone and beside the language model: weights move, a kill changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from policy.base import Policy
from tests.rl.decoder.decoder_case import DECODER, WINDOW
from tests.rl.run_case import ROOT, launch, metrics, write_config

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


@pytest.mark.parametrize("sections", [COPIES, WINDOW], ids=["nft with copies", "window"])
def test_a_decoder_alone_learns_and_a_killed_run_resumes_bit_for_bit(
    sections: dict[str, Any], tiny_policy: Path, tmp_path: Path
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
    assert launch("step", config, program=KILLED).returncode == -signal.SIGKILL
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(broken / "run") == metrics(whole / "run")
