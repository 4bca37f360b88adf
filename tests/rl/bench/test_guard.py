"""Our step against TRL's, measured anew: not more than 15 % below the ratio that is recorded."""

from __future__ import annotations

import os

import pytest

from rl.bench.__main__ import bench
from rl.bench.results import FIGURES, read
from rl.bench.variants import CONFIG, chosen

LEAST = 0.85
STEPS = 8


@pytest.mark.slow
def test_the_ratio_to_trl_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "VLLM_PLUGINS", "DS_ACCELERATOR"):  # of the tests, not of a user
        monkeypatch.delenv(name, raising=False)
    recorded = read(FIGURES)
    found = bench(CONFIG, [], chosen("ours,trl,ours-best"), STEPS, lambda line: print(line, flush=True))
    for name in ("ours", "ours-best"):
        ratio, before = found.ratio(name), recorded.ratio(name)
        assert ratio is not None, [one.failure for one in found.outcomes]
        assert before is not None
        assert ratio >= LEAST * before, f"{name}: {ratio:.2f} x TRL, recorded {before:.2f}; cpus {os.cpu_count()}"
