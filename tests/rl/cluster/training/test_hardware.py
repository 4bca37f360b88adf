"""The presets of several GPUs on clusters that are invented: a dry run, the room that they need, and who lies where."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.cluster import places
from rl.cluster.places import WorkerNeeds
from rl.cluster.training.group import TrainerGroup
from rl.config.load import load
from rl.config.schema import Config
from rl.config.sections.cluster import ClusterConfig
from rl.config.sections.cluster_rules import counted
from rl.launch import main
from rl.preflight import machine
from rl.types import UserError
from tests.rl.cluster.placing.test_places import FakeRay, entered
from tests.rl.run_case import ROOT

MACHINES = {"node8": 1, "nodes4": 4}


def a_run(preset: str, folder: Path) -> Path:
    run = folder / f"{preset}.yaml"
    run.write_text(f"extends: [{ROOT}/examples/geneval.yaml, {ROOT}/configs/hardware/{preset}.yaml]\n")
    return run


def ray_of(machines: int, gpus: int = 8) -> FakeRay:
    """The last machine has that many GPUs, the others eight."""
    ray = FakeRay(CPU=64.0 * machines, GPU=8.0 * (machines - 1) + gpus)
    ray.machines = [{"CPU": 64.0, "GPU": 8.0}] * (machines - 1) + [{"CPU": 64.0, "GPU": float(gpus)}]
    return ray


def loaded(preset: str, folder: Path) -> Config:
    return load(a_run(preset, folder), ["cluster.address=null"])


@pytest.mark.parametrize(
    ("preset", "ranks"), [("node8", "1"), ("nodes4", "3, 86 samples of an update each; ZeRO stage 1")]
)
def test_a_dry_run_of_a_preset(
    preset: str, ranks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "usable_gpus", lambda: 8)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main([str(a_run(preset, tmp_path)), "--dry-run", "rollout.engine=torch"]) == 0  # vLLM may not be here
    told = dict(
        re.split(r" {2,}", line[2:], maxsplit=1)
        for line in capsys.readouterr().out.splitlines()
        if "  " in line and line.startswith("# ")
    )
    assert told["ranks"] == ranks


@pytest.mark.parametrize("preset", list(MACHINES))
def test_a_preset_fits_its_machines_and_no_smaller_ones(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, count = loaded(preset, tmp_path), MACHINES[preset]
    entered(config, ray_of(count), monkeypatch)
    with pytest.raises(UserError) as caught:
        entered(config, ray_of(count, gpus=7), monkeypatch)
    workers = config.cluster
    words = [counted(workers.samplers, "sampler"), counted(workers.painters, "painter")]
    assert str(caught.value).startswith(
        f"cluster: {', '.join(words)} and {counted(workers.trainers, 'trainer')} need "
        f"{8 * count} GPUs and the cluster has {8 * count - 1}; lower cluster.samplers, "
    )


def test_a_machine_gives_all_its_gpus_to_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own process, which trains no more, keeps none."""
    ray = ray_of(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    monkeypatch.setattr(places, "visible_gpus", lambda: os.environ["CUDA_VISIBLE_DEVICES"].split(","))
    entered(loaded("node8", tmp_path), ray, monkeypatch)
    assert ray.told["num_gpus"] == 8
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.fixture
def four_machines() -> Iterator[None]:
    """Of Ray's own making, on this one; nobody looks whether the GPUs are there."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for _ in range(4):
        cluster.add_node(num_cpus=9, num_gpus=8, object_store_memory=75 << 20)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ranks_lie_on_one_machine_while_it_has_room(four_machines: None) -> None:
    """And on as few as possible where none has: such a run would wait for ever for all of them on one."""
    config = ClusterConfig(start_timeout_s=240)
    for ranks, machines in ((3, 1), (10, 2)):
        group = TrainerGroup(ranks, WorkerNeeds(0.5, 1.0, 1), config)
        try:
            group.meet()
            assert len({one.node for one in group._residences}) == machines
        finally:
            group.close()
