"""Random faults by the hundred: every sample ends scored or failed as foretold, none twice, none missing."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.types import Prompt, Sample, Score
from tests.rewards.pool.test_pool_batches import PLUGINS

BATCH = 4
TIMEOUT_S = 2.0  # generous for a busy machine: a sound batch takes a millisecond
LOSES_THE_WORKER = {
    "crash": "worker died (signal SIGSEGV)",
    "killed": "worker died (killed; out of memory?)",
    "leave": "worker died (exit code 5)",
    "hang": "timed out after 2 s",
}
ANSWERS_WRONG = {
    "throw": "RuntimeError: thrown on purpose (pool_plugins.py:",
    "short": "returned 3 values for 4 samples",
    "nothing": "returned None instead of a list of 4 values",
}
HARMLESS = ("slow", "leak")
FAULTS = (*LOSES_THE_WORKER, *ANSWERS_WRONG, *HARMLESS, "nan")


def planned(faults: int, seed: int) -> list[tuple[str, ...]]:
    """Per batch the faults of its attempts, one or two of them in two batches of three; ``faults`` in all."""
    rng = random.Random(seed)
    plan: list[tuple[str, ...]] = []
    left = faults
    while left:
        first = rng.choice(FAULTS)
        met = (first, rng.choice(FAULTS)) if first in LOSES_THE_WORKER and left > 1 and rng.random() < 0.5 else (first,)
        plan += [met, *[()] * rng.randrange(2)]
        left -= len(met)
    return plan


def check(found: list[Score], number: int, met: tuple[str, ...]) -> None:
    """Two attempts are allowed; what the last one met decides."""
    good = [(number * BATCH + i) % 256 / 255 for i in range(BATCH)]
    lost = sum(fault in LOSES_THE_WORKER for fault in met)
    last = met[-1] if met and (lost == 2 or met[-1] not in LOSES_THE_WORKER) else None
    if last in LOSES_THE_WORKER:
        assert [score.failure for score in found] == [f"{LOSES_THE_WORKER[str(last)]} (2 attempts)"] * BATCH
    elif last in ANSWERS_WRONG:
        assert all(str(score.failure).startswith(ANSWERS_WRONG[str(last)]) for score in found), found
    elif last == "nan":
        assert [score.failure for score in found[:-1]] == [None] * (BATCH - 1)
        assert str(found[-1].failure).startswith("returned nan for the prompt ")
        assert [score.value for score in found] == [*good[:-1], None]
    else:
        assert found == [Score(value) for value in good]
    assert all((score.value is None) == score.failed for score in found)


def soak(faults: int, folder: Path, seed: int = 0) -> Counter[str]:
    plan = planned(faults, seed)
    samples = [
        Sample(
            id=f"s{number}-{i}",
            group=f"g{number}",
            prompt=Prompt(f"p{number}", "x", {"faults": met}),
            picture=np.full((8, 8, 3), (number * BATCH + i) % 256, np.uint8),
        )
        for number, met in enumerate(plan)
        for i in range(BATCH)
    ]
    reward = RewardComponent(use=f"{PLUGINS}:Faulty", options={"counts": str(folder)}, workers=3, batch_size=BATCH)
    with RewardPool({"f": reward}, RewardPoolConfig(timeout_s=TIMEOUT_S, recycle_growth_mb=100)) as pool:
        found = pool.score(samples)["f"]
        restarts = pool.restarts["f"]
    assert len(found) == len(samples)
    for number, met in enumerate(plan):
        check(found[number * BATCH : (number + 1) * BATCH], number, met)
        attempts = min(2, 1 + sum(fault in LOSES_THE_WORKER for fault in met))
        assert (folder / f"s{number}-0").stat().st_size == attempts, (number, met)
    injected = Counter(fault for met in plan for fault in met)
    assert injected.total() == faults and set(injected) == set(FAULTS)
    assert restarts == sum(injected[fault] for fault in LOSES_THE_WORKER)
    return injected


def test_sixty_faults(tmp_path: Path) -> None:
    soak(60, tmp_path)


@pytest.mark.slow  # 79 s on two cores
@pytest.mark.timeout(1800)
def test_a_thousand_faults(tmp_path: Path) -> None:
    print(soak(1000, tmp_path))
