"""What a reward declares, what the YAML overrides, and what its worker is given."""

from __future__ import annotations

import os
import re
import sys
import venv
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from rewards.needs import _THREAD_VARIABLES, KEEP_MEMORY, Needs, declared_needs, fair_threads, settle_needs
from rewards.pool.alongside import start_rewards
from rewards.pool.gpus import Devices, visible_gpus
from rewards.pool.pool import RewardPool
from rl.config.schema import Config, RewardComponent, RewardPoolConfig
from rl.data.pictures import Picture
from rl.types import UserError
from tests.rewards.pool.test_pool_batches import PLUGINS, samples, values


def test_needs_are_read_from_the_source_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert declared_needs(f"{PLUGINS}:Declared") == Needs(workers=2, batch_size=3, cpus=2)
    assert declared_needs(f"{PLUGINS}:declares") == Needs(gpus=0.5, batch_size=2)
    assert declared_needs(f"{PLUGINS}:Threaded") == Needs(thread_safe=True, cpus=3)
    assert declared_needs(f"{PLUGINS}:calls") == declared_needs("nowhere:f") == declared_needs("ocr:") == Needs()
    (tmp_path / "explodes.py").write_text("raise RuntimeError\nclass Reward:\n    needs = {'cpus': 3}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert declared_needs("explodes:Reward") == Needs(cpus=3)


def test_the_configuration_overrides_the_declaration() -> None:
    reward = RewardComponent(use=f"{PLUGINS}:Declared", batch_size=5, gpus=1)
    needs, declared = settle_needs("d", reward)
    assert needs == Needs(workers=2, batch_size=5, cpus=2, gpus=1)
    assert declared == Needs(workers=2, batch_size=3, cpus=2)


def test_a_declared_gpu_is_a_wish() -> None:
    wish, order = RewardComponent(use=f"{PLUGINS}:declares"), RewardComponent(use=f"{PLUGINS}:declares", gpus=1)
    assert settle_needs("d", wish, gpus=0)[0].gpus == 0
    assert settle_needs("d", wish, gpus=1)[0].gpus == 0.5
    assert settle_needs("d", order, gpus=0)[0].gpus == 1  # which Devices refuses


def test_a_worker_keeps_memory_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEEP_MEMORY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Needs().environment(None) == KEEP_MEMORY
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert Needs().environment(None) == {"MALLOC_MMAP_MAX_": "0"}


def test_the_threads_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_THREAD_VARIABLES, *KEEP_MEMORY):
        monkeypatch.setenv(name, "x")
    assert Needs().environment(4) == {}  # the user has said it
    assert Needs(cpus=2).environment(4) == dict.fromkeys(_THREAD_VARIABLES, "2")
    assert Needs(cpus=2, thread_safe=True).environment(4) == dict.fromkeys(_THREAD_VARIABLES, "1")
    for name in _THREAD_VARIABLES:
        monkeypatch.delenv(name)
    assert Needs().environment(4) == dict.fromkeys(_THREAD_VARIABLES, "4")
    assert Needs().environment(None) == {}


def test_the_cores_are_shared_by_what_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [fair_threads(busy) for busy in (0, 1, 2, 3, 9)] == [8, 8, 4, 2, 1]
    use = f"{PLUGINS}:threads"
    rewards = {
        "two": RewardComponent(use=use, workers=2),
        "one": RewardComponent(use=use),
        "own": RewardComponent(use=use, cpus=3),
    }
    for others, share in ((0, 2.0), (3, 1.0)):
        with RewardPool(rewards, other_processes=others) as pool:
            found = pool.score(samples(2))
        assert {name: values(scores) for name, scores in found.items()} == {
            "two": [share] * 2,
            "one": [share] * 2,
            "own": [3.0] * 2,
        }


def test_a_worker_gets_what_was_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    half = RewardComponent(use=f"{PLUGINS}:Declared", cpus=1, gpus=0.5)
    with RewardPool({"d": RewardComponent(use=f"{PLUGINS}:Declared"), "half": half}) as pool:
        assert {name: len(pids) for name, pids in pool.pids.items()} == {"d": 2, "half": 2}
        assert pool.needs["half"] == Needs(workers=2, batch_size=3, cpus=1, gpus=0.5)
        found = pool.score(samples(12))
    given = [{key: value for key, value in score.details.items() if key != "pid"} for score in found["d"]]
    none = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "", "batch": 2}
    assert given == [none] * 12  # groups of two in batches of at most three
    devices = {(score.details["pid"], score.details["CUDA_VISIBLE_DEVICES"]) for score in found["half"]}
    assert {device for _, device in devices} <= {"2", "5"}
    assert len(devices) == len({pid for pid, _ in devices})  # a worker keeps its device


def test_gpus_are_dealt_to_the_least_loaded() -> None:
    devices = Devices(["0", "1", "2"])
    assert [devices.assign("a", 0.5) for _ in range(4)] == ["0", "1", "2", "0"]
    assert devices.assign("b", 2) == "1,2"
    assert devices.assign("c", 0) == ""
    with pytest.raises(UserError) as caught:
        devices.assign("d", 4)
    assert str(caught.value) == (
        "rewards.d.gpus is 4, but this machine shows 3 GPUs; set rewards.d.gpus to 0 to run it on the CPU"
    )


def test_gpus_are_counted_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7, 3")
    assert visible_gpus() == ["GPU-7", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    listed = ["null", "nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"]
    monkeypatch.setattr(os, "listdir", lambda folder: listed if folder == "/dev" else [])
    assert visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (
            RewardComponent(use=f"{PLUGINS}:calls", gpus=1.5),
            "rewards.x: `gpus` is 1.5: it must be 0, a share up to 1, or a whole number of GPUs",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:misspelt"),
            f"'{PLUGINS}:misspelt': its `needs` has an unknown entry 'batchsize', did you mean 'batch_size'? (known: "
            "workers, batch_size, cpus, gpus, thread_safe, whole_groups, python)",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:impossible"),
            f"'{PLUGINS}:impossible': in its `needs` `gpus` is 1.5: it must be 0, a share up to 1, or a whole number "
            "of GPUs",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:computed"),
            f"'{PLUGINS}:computed' declares the needs {{'cpus': 2}}, which could not be read from its source: write "
            "`needs` with literal values in the body of the class (beside a function: `computed.needs = {...}`)",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:calls", python="/nowhere/python"),
            "rewards.x.python: there is no interpreter '/nowhere/python'; "
            "name the `bin/python` of the reward's virtual environment",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:calls", python="pyproject.toml"),
            "rewards.x.python: 'pyproject.toml' may not be executed; `chmod +x` it or name another",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:calls", gpus=1),
            "rewards.x.gpus is 1, but this machine shows 0 GPUs; set rewards.x.gpus to 0 to run it on the CPU",
        ),
        (
            RewardComponent(use=f"{PLUGINS}:NeedsCuda"),
            f"rewards.x: '{PLUGINS}:NeedsCuda' with options {{}} raised RuntimeError: Found no NVIDIA driver on your "
            "system (pool_plugins.py:90); this reward is given no GPU, set rewards.x.gpus to its share of one",
        ),
    ],
)
def test_needs_that_cannot_be_met_are_the_users_to_repair(
    reward: RewardComponent, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError) as caught:
        RewardPool({"x": reward})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "workers\n  Input should be greater than or equal to 1"),
        ({"batch_size": -1}, "batch_size\n  Input should be greater than or equal to 1"),
        ({"cpus": 1.5}, "cpus\n  Input should be a valid integer"),
        ({"gpus": -0.5}, "gpus\n  Input should be greater than or equal to 0"),
    ],
)
def test_an_override_that_no_machine_can_meet_is_found_by_the_section(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardComponent(use=f"{PLUGINS}:calls", **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "`workers` is 0: it must be a whole number of at least 1"),
        ({"batch_size": -1}, "`batch_size` is -1: it must be a whole number of at least 1"),
        ({"cpus": True}, "`cpus` is True: it must be a whole number of at least 1"),
        ({"gpus": -0.5}, "`gpus` is -0.5: it must be 0, a share up to 1, or a whole number of GPUs"),
    ],
)
def test_a_declaration_that_no_machine_can_meet_is_a_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Needs(**wrong)


def test_the_configuration_reaches_the_pool(tmp_path: Path) -> None:
    component = RewardComponent(
        use=f"{PLUGINS}:calls", options={"log": str(tmp_path / "log")}, workers=2, batch_size=4, cpus=1, gpus=0
    )
    cache = tmp_path / "cache"
    config = Config(rewards={"c": component}, reward_pool=RewardPoolConfig(cache=str(cache), cache_mb=8))
    with start_rewards(config) as pool:
        assert pool.needs == {"c": Needs(workers=2, batch_size=4, cpus=1)}
        assert values(pool.score(samples(2))["c"]) == [0.0, 1 / 255]
    assert cache.is_dir()


def own_environment(folder: Path) -> Path:
    """A virtual environment with numpy and a module that nobody else has; made offline."""
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (packages / "numpy").symlink_to(Path(np.__file__).parent)
    libraries = Path(np.__file__).parents[1] / "numpy.libs"
    if libraries.is_dir():
        (packages / "numpy.libs").symlink_to(libraries)
    (packages / "conflicting.py").write_text("NUMBER = 0.25\n")
    return folder / "bin" / "python"


def test_a_reward_may_have_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = own_environment(tmp_path / "venv")
    (tmp_path / "needs_conflicting.py").write_text(
        dedent("""
        import sys
        from importlib.util import find_spec

        import conflicting
        from rl.types import Score

        def reward(samples):
            details = {"prefix": sys.prefix, **{name: find_spec(name) is not None for name in ("torch", "PIL")}}
            details["pictures"] = [picture.pixels.tolist() for picture in samples[0].prompt.pictures]
            return [Score(conflicting.NUMBER + sample.picture.mean(), details=details) for sample in samples]
        """)
    )
    monkeypatch.chdir(tmp_path)
    reward = RewardComponent(use="needs_conflicting:reward")
    with pytest.raises(UserError, match="needs the module 'conflicting', which is not installed"):
        RewardPool({"own": reward})
    with RewardPool(
        {"own": RewardComponent(use=reward.use, python=str(python)), "ours": RewardComponent(use=f"{PLUGINS}:keeps")}
    ) as pool:
        Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "cat.png")
        edit = replace(samples(1)[0].prompt, pictures=(Picture(tmp_path / "cat.png"),))
        found = pool.score([replace(sample, prompt=edit) for sample in samples(3)])
    assert values(found["own"]) == [0.25, 1.25, 2.25]
    details = {"prefix": str(tmp_path / "venv"), "torch": False, "PIL": False, "pictures": [[[[1, 2, 3]] * 2]]}
    assert found["own"][0].details == details
    assert values(found["ours"]) == [0.0, 1.0, 2.0]
