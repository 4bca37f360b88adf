"""vLLM as the sampler of a cluster: a real engine in a worker's process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rl.cluster.test_ahead import CHANGES, ahead, evaluations, run
from tests.rl.run_case import ROOT, launch, metrics, write_config

pytest.importorskip("vllm")
# an engine takes 20 to 70 s to load
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
OPTIONS = {"max_num_seqs": 8, "kv_cache_mb": 64}
VLLM = {**CHANGES["rollout"], "engine": "vllm", "options": OPTIONS}
TRAIN = {**CHANGES["train"], "steps": 3}


def test_in_turn_vllm_gives_the_serial_loops_numbers_from_a_process_of_its_own(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    serial = run(tmp_path / "serial", tiny_policy, rollout=VLLM, train=TRAIN)
    workers = run(tmp_path / "workers", tiny_policy, rollout=VLLM, train=TRAIN, **ahead(address, 0))
    assert metrics(workers) == metrics(serial)
    assert [step for step, _ in metrics(workers)] == [0, 1, 2]
    assert evaluations(workers) == evaluations(serial) != []


def test_one_gpus_preset_takes_turns_alone_and_with_vllm_in_a_process_of_its_own(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    """As far as a CPU goes: its vLLM keeps the memory that it lends, and only takes no requests meanwhile."""
    changes = {
        "extends": str(ROOT / "configs/hardware/gpu1.yaml"),
        "rollout": {"group_size": 4, "options": OPTIONS},
        "train": {**TRAIN, "steps": 2},
        "eval": {"every": 1, "grid": 0},
    }
    (tmp_path / "dry").mkdir()
    for loop in ("serial", "ahead"):
        told = launch(
            write_config(tmp_path / "dry", tiny_policy, **{**CHANGES, **changes}), f"loop={loop}", "--dry-run"
        )
        assert told.returncode == 0, told.stderr
    serial = run(tmp_path / "serial", tiny_policy, **changes)
    shared = {"loop": {"use": "ahead"}, "cluster": {"address": address}}
    workers = run(tmp_path / "workers", tiny_policy, **changes, **shared)
    assert "vllm" in (workers / "config.yaml").read_text() and "sleep: 2" in (workers / "config.yaml").read_text()
    assert metrics(workers) == metrics(serial)
    assert [step for step, _ in metrics(workers)] == [0, 1]
    assert evaluations(workers) == evaluations(serial) != []
