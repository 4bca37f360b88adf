"""The same pool on Ray actors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.data.pictures import Picture
from rl.types import Prompt, UserError
from tests.rewards.pool.test_pool_batches import PLUGINS, levels, samples, values
from tests.rewards.pool.test_pool_faults import faulty

pytestmark = pytest.mark.slow  # a local cluster takes 20 s to start, an actor 3 s


@pytest.fixture(autouse=True)
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def test_actors_answer_die_and_hang_like_processes(tmp_path: Path) -> None:
    (tmp_path / "counts").mkdir()
    plan = [*faulty(samples(2), "crash"), *faulty(samples(2, first=2), "hang"), *faulty(samples(2, first=4), "throw")]
    plan += [*faulty(samples(2, first=6), "leave", "leave"), *faulty(samples(2, first=8))]
    rewards = {
        "f": RewardComponent(use=f"{PLUGINS}:Faulty", options={"counts": str(tmp_path / "counts")}, batch_size=2),
        "d": RewardComponent(use=f"{PLUGINS}:Declared", workers=1, cpus=1),
    }
    with RewardPool(rewards, RewardPoolConfig(backend="ray", timeout_s=5.0, cache=str(tmp_path / "cache"))) as pool:
        before = pool.pids
        found = pool.score(plan)
        assert pool.restarts == {"f": 4, "d": 0}
        assert pool.pids["d"] == before["d"] != [0]
        assert pool.pids["f"] != before["f"]
        assert pool.score(plan)["d"] == found["d"]  # from the cache
    assert values(found["f"]) == [*levels(4), None, None, None, None, 8 / 255, 9 / 255]
    assert str(found["f"][4].failure).startswith("RuntimeError: thrown on purpose (pool_plugins.py:")
    assert str(found["f"][6].failure).startswith("worker died (ActorDiedError: The actor died")
    assert str(found["f"][6].failure).endswith("(2 attempts)")
    given = found["d"][0].details
    assert (given["OMP_NUM_THREADS"], given["CUDA_VISIBLE_DEVICES"], given["batch"]) == ("1", "", 2)
    assert given["pid"] == before["d"][0]

    with pytest.raises(UserError) as caught:
        RewardPool({"x": RewardComponent(use=f"{PLUGINS}:nothing_there")}, RewardPoolConfig(backend="ray"))
    assert str(caught.value).startswith(f"rewards.x.use: module '{PLUGINS}' has no 'nothing_there'")
    with pytest.raises(UserError) as caught:
        RewardPool(
            {"x": RewardComponent(use=f"{PLUGINS}:Declared", cpus=64)},
            RewardPoolConfig(backend="ray", start_timeout_s=3.0),
        )
    assert "did not start within 3 s (has the cluster the CPUs and GPUs that it asks for?)" in str(caught.value)


def test_actors_get_the_pictures_of_prompts_as_arrays(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (3, 3, 3)).save(tmp_path / "cat.png")
    prompts = [Prompt("p", "x", pictures=(Picture(tmp_path / f"{name}.png"),)) for name in ("cat", "gone")]
    given = [replace(sample, prompt=prompts[i // 2]) for i, sample in enumerate(samples(4))]
    reward = RewardComponent(use=f"{PLUGINS}:sources")
    with RewardPool({"s": reward}, RewardPoolConfig(backend="ray")) as pool:
        found = pool.score(given)["s"]
    assert [score.details for score in found[:2]] == [{"sources": ["ndarray"], "writeable": [False]}] * 2
    assert [score.failed for score in found] == [False, False, True, True]
