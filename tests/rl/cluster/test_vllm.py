"""vLLM as the sampler of a cluster: a real engine in a worker's process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rl.cluster.test_ahead import CHANGES, ahead, evaluations, run
from tests.rl.run_case import metrics

pytest.importorskip("vllm")
# an engine takes 20 to 70 s to load
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
VLLM = {**CHANGES["rollout"], "engine": "vllm", "options": {"max_num_seqs": 8, "kv_cache_mb": 64}}
TRAIN = {**CHANGES["train"], "steps": 3}


def test_in_turn_vllm_gives_the_serial_loops_numbers_from_a_process_of_its_own(
    address: str, tiny_policy: Path, tmp_path: Path
) -> None:
    serial = run(tmp_path / "serial", tiny_policy, rollout=VLLM, train=TRAIN)
    workers = run(tmp_path / "workers", tiny_policy, rollout=VLLM, train=TRAIN, **ahead(address, 0))
    assert metrics(workers) == metrics(serial)
    assert [step for step, _ in metrics(workers)] == [0, 1, 2]
    assert evaluations(workers) == evaluations(serial) != []
