"""A cluster that does not answer, has another version or too little room is refused in a sentence, at once."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rl.cluster import places
from rl.cluster.places import needs_of, on_cluster, require_room_for_pictures
from rl.config.load import load
from rl.config.schema import Config
from rl.process.interrupt import Interrupt
from rl.types import RunFailure, UserError
from tests.rl.run_case import ROOT


class FakeRay:
    """What is asked of Ray, with the resources of a cluster."""

    def __init__(self, refusal: Exception | None = None, **resources: float) -> None:
        self.resources = {"CPU": 4.0, "object_store_memory": 1e9, **resources}
        self.refusal, self.connected = refusal, False
        self.told: dict[str, Any] = {}
        self.checks: list[str] = []
        self.machines: list[dict[str, float]] = []
        """``[]``: one has it all."""

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, **told: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.told, self.connected = told, True

    def shutdown(self) -> None:
        self.connected = False

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self.machines or [self.resources]]


def config(*overrides: str) -> Config:
    return load(ROOT / "examples/geneval.yaml", ["loop=ahead", "loop.staleness=2", *overrides])


def entered(config: Config, ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ray", ray)
    monkeypatch.setattr(places, "require_our_code", lambda: ray.checks.append("code"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with on_cluster(config, Interrupt()):
        assert ray.connected


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_without_an_address_one_is_started_here_with_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(CPU=64.0)
    entered(config("cluster.samplers=9", "cluster.painters=8"), ray, monkeypatch)
    assert ray.told["num_cpus"] >= 18
    assert ray.told["address"] == "local"  # also where somebody has a cluster on this machine already
    assert not ray.connected
    assert ray.checks == []
    token = logging.getLogger("ray._private.authentication.authentication_token_setup")
    assert not token.isEnabledFor(logging.WARNING)  # what Ray says of its token at each start is not of the run


def test_a_cluster_that_is_there_is_joined_and_left_and_one_of_the_process_kept(
    monkeypatch: pytest.MonkeyPatch, listening: str
) -> None:
    ray = FakeRay()
    entered(config(f"cluster.address={listening}"), ray, monkeypatch)
    assert ray.told["address"] == listening
    assert ray.checks == ["code"]
    ray.connected = True
    entered(config(), ray, monkeypatch)
    assert ray.connected


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UserError) as caught:
        entered(config(f"cluster.address={address}"), FakeRay(), monkeypatch)
    assert str(caught.value).startswith(f"cluster.address: {address} does not answer ([Errno 111] Connection refused)")
    assert str(caught.value).endswith("start Ray there (ray start --head), or leave the key out to start one here.")


def test_a_cluster_of_another_version(monkeypatch: pytest.MonkeyPatch, listening: str) -> None:
    words = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.11.9\nThis process on node "
        "10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.9\n"
    )
    with pytest.raises(UserError) as caught:
        entered(config(f"cluster.address={listening}"), FakeRay(RuntimeError(words)), monkeypatch)
    assert str(caught.value) == (
        f"cluster.address: {listening} can't be joined: {' '.join(words.split())}; install the same Ray and Python on "
        "both"
    )


def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        entered(config("cluster.address=nowhere"), FakeRay(ValueError("Invalid address format: nowhere")), monkeypatch)
    assert str(caught.value) == (
        "cluster.address: nowhere can't be joined: Invalid address format: nowhere; write host:port, or auto for this "
        "machine's cluster"
    )


@pytest.mark.parametrize(
    ("overrides", "resources", "told"),
    [
        (
            ["cluster.samplers=2", "cluster.painters=3"],
            {"CPU": 4.0},
            "cluster: 2 samplers and 3 painters need 5 CPUs and the cluster has 4; lower cluster.samplers or "
            "cluster.painters, or what each reserves (cluster.cpus).",
        ),
        (
            ["cluster.painters=3"],
            {"GPU": 3.0},
            "cluster: 1 sampler and 3 painters need 4 GPUs and the cluster has 3; lower cluster.samplers or "
            "cluster.painters, or what each reserves (cluster.sampler_gpus, cluster.painter_gpus).",
        ),
        (
            ["cluster.trainers=3"],
            {"CPU": 4.0},
            "cluster: 1 sampler, 1 painter and 3 trainers need 5 CPUs and the cluster has 4; lower cluster.samplers, "
            "cluster.painters or cluster.trainers, or what each reserves (cluster.cpus).",
        ),
        (["cluster.sampler_gpus=1"], {}, "cluster: 1 sampler and 1 painter need 1 GPU and the cluster has 0;"),
    ],
)
def test_more_workers_than_the_cluster_will_ever_have_room_for(
    overrides: list[str], resources: dict[str, float], told: str, monkeypatch: pytest.MonkeyPatch, listening: str
) -> None:
    ray = FakeRay(**resources)
    with pytest.raises(UserError) as caught:
        entered(config(f"cluster.address={listening}", *overrides), ray, monkeypatch)
    assert told in str(caught.value)
    assert not ray.connected


def test_a_placement_that_no_machine_can_meet_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, listening: str
) -> None:
    """There are as many GPUs as asked for, and none of the machines has two of them free for one worker."""
    ray = FakeRay(CPU=24.0, GPU=5.0)
    ray.machines = [{"CPU": 8.0, "GPU": 3.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    given = [f"cluster.address={listening}", "cluster.sampler_gpus=2", "cluster.painter_gpus=0.5"]
    entered(config(*given, "cluster.painters=6"), ray, monkeypatch)
    with pytest.raises(UserError) as caught:
        entered(config(*given, "cluster.samplers=2"), ray, monkeypatch)
    assert str(caught.value) == (
        "cluster: each of 2 samplers needs 1 CPU and 2 GPUs of one machine, and the cluster's machines (8 CPUs with 3 "
        "GPUs and 2 x 8 CPUs with 1 GPU) have room for 1; lower cluster.samplers, cluster.cpus or cluster.sampler_gpus."
    )
    assert not ray.connected
    ray = FakeRay(CPU=18.0)
    ray.machines = [{"CPU": 3.0}] * 6
    with pytest.raises(UserError, match=r"have room for 6; lower cluster.trainers or cluster.cpus\.$"):
        entered(config(given[0], "cluster.cpus=2", "cluster.trainers=7"), ray, monkeypatch)


def test_roles_that_fit_alone_and_not_together_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, listening: str
) -> None:
    """Each kind alone has room, and the sums do: 12 CPUs of 16 and 6 GPUs of 6."""
    ray = FakeRay(CPU=16.0, GPU=6.0)
    ray.machines = [{"CPU": 8.0, "GPU": 3.0}] * 2
    two = ["cluster.sampler_gpus=2", "cluster.painter_gpus=2"]
    given = [f"cluster.address={listening}", *two, "cluster.trainers=2"]
    entered(config(*given), ray, monkeypatch)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        entered(config(*given[:-1], "cluster.samplers=1", "cluster.painters=2"), ray, monkeypatch)
    assert time.monotonic() - started < 5
    assert str(caught.value) == (
        "cluster: 1 sampler of 1 CPU and 2 GPUs and 2 painters of 1 CPU and 2 GPUs never have room together on the "
        "cluster's machines (2 x 8 CPUs with 3 GPUs), each of them on one: 1 painter is left over; lower "
        "cluster.samplers or cluster.painters, or add a machine with 1 CPU and 2 GPUs."
    )
    assert not ray.connected


def test_cpus_of_one_machine_and_gpus_of_another_are_no_place(monkeypatch: pytest.MonkeyPatch, listening: str) -> None:
    ray = FakeRay(CPU=34.0, GPU=4.0)
    ray.machines = [{"CPU": 2.0, "GPU": 4.0}, {"CPU": 32.0}]
    given = [f"cluster.address={listening}", "cluster.samplers=2", "cluster.trainers=1", "cluster.painter_gpus=0"]
    with pytest.raises(UserError, match="1 trainer of 1 CPU and 1 GPU never have room together .* is left over; lower"):
        entered(config(*given), ray, monkeypatch)
    entered(config(*given[:1], "cluster.samplers=1", *given[2:]), ray, monkeypatch)


def test_a_ray_that_does_not_come_up_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(Exception("The current node timed out during startup.\nThis could happen"))
    with pytest.raises(RunFailure) as caught:
        entered(config(), ray, monkeypatch)
    assert str(caught.value) == (
        "Ray could not be started on this machine (The current node timed out during startup. This could happen); look "
        "into /tmp/ray/session_latest/logs, or try again when it is less busy"
    )


def test_pictures_of_the_steps_under_way_have_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ray", FakeRay(object_store_memory=5e9))
    require_room_for_pictures(config(), 64 * 64 * 3)
    few = config("data.prompts_per_step=32", "rollout.group_size=8")
    require_room_for_pictures(few, 1024 * 1024 * 3)
    with pytest.raises(UserError, match="3 steps of 288 pictures take 2.72 GB"):  # those that are to be changed as well
        require_room_for_pictures(few, 1024 * 1024 * 3, references=True)
    with pytest.raises(UserError, match="3 steps of 288 pictures take 3.49 GB"):  # to which there is no way
        require_room_for_pictures(few, 1024 * 1024 * 3, way_bytes=10**6, references=True)
    with pytest.raises(UserError) as caught:
        require_room_for_pictures(config("rollout.group_size=32"), 1024 * 1024 * 3)
    assert str(caught.value) == (
        "cluster: 3 steps of 1,024 pictures take 9.66 GB, and Ray's object stores have 5.00 GB, of which at most half "
        "is for them; start Ray with a larger --object-store-memory, or lower loop.staleness, data.prompts_per_step or "
        "rollout.group_size"
    )
    in_turn = config("rollout.group_size=128", "loop.staleness=0", "loop.in_turn=true")
    with pytest.raises(UserError, match="1 step of 4,096 pictures takes .* or lower data.prompts_per_step or rollout"):
        require_room_for_pictures(in_turn, 1024 * 1024 * 3)


@pytest.mark.slow
def test_a_real_object_store_that_is_too_small(address: str) -> None:
    """Of 75 MB, the least that Ray takes."""
    require_room_for_pictures(config(), 64 * 64 * 3)
    with pytest.raises(UserError) as caught:
        require_room_for_pictures(config(), 256 * 256 * 3)
    assert str(caught.value).startswith(
        "cluster: 3 steps of 256 pictures take 0.15 GB, and Ray's object stores have 0.08 GB, of which at most half is "
    )


def test_threads_are_those_of_the_environment_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ray", FakeRay(GPU=8.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {role: (need.threads, need.gpus) for role, need in needs_of(config()).items()} == {
        "sample": (3, 1.0),
        "paint": (3, 1.0),
    }
    assert needs_of(config("cluster.threads=5", "cluster.painter_gpus=0.5"))["paint"].threads == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert needs_of(config("cluster.painters=99"))["sample"].threads == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "Ray has not started within 0.05 s; look into /tmp/ray/session_latest/logs"),
        (
            ["cluster.address=auto"],
            "cluster.address: auto has not let this machine in within 0.05 s; see that Ray runs there and that its "
            "ports are open",
        ),
    ],
)
def test_ray_has_a_deadline_for_its_start(given: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, waiting = list[tuple[str, int]](), threading.Event()
    ray, interrupt = FakeRay(), Interrupt()
    monkeypatch.setattr(interrupt, "end", lambda words, code: (ended.append((words, code)), waiting.set()))
    monkeypatch.setattr(ray, "init", lambda **_: waiting.wait(20))
    monkeypatch.setattr(places, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(places, "require_our_code", lambda: None)
    with on_cluster(config("cluster.start_timeout_s=0.05", *given), interrupt):
        pass
    assert ended == [(f"error: the run cannot go on: {told}, or raise cluster.start_timeout_s", 3)]


def gpus_given_to_ray(visible: str, ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, str]]:
    """How many it is told to have and which it sees, of a machine that shows these."""
    seen: list[tuple[object, str]] = []
    monkeypatch.setattr(ray, "init", lambda **told: seen.append((told["num_gpus"], os.environ["CUDA_VISIBLE_DEVICES"])))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(places, "visible_gpus", lambda: os.environ["CUDA_VISIBLE_DEVICES"].split(","))
    monkeypatch.setattr(places, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return seen


def test_the_trainers_ranks_keep_the_machines_first_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = gpus_given_to_ray("4,5,6,7", FakeRay(GPU=2.0), monkeypatch)
    with on_cluster(config("train.ranks=2"), Interrupt()):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert seen == [(2, "6,7")]


def test_samplers_that_sleep_share_the_trainers_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = gpus_given_to_ray("3", FakeRay(GPU=1.0), monkeypatch)
    shared = load(
        ROOT / "examples/geneval.yaml",
        ["loop=ahead", "cluster.painters=0", "rollout.engine=vllm", "rollout.sleep=2"],
    )
    with on_cluster(shared, Interrupt()):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
        assert needs_of(shared)["sample"].gpus == 1
    assert seen == [(1, "3")]


def test_a_machine_with_one_gpu_has_none_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than that they would compute on its CPU without a word."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(places, "visible_gpus", lambda: ["0"])
    with pytest.raises(UserError, match="1 sampler and 1 painter need 2 GPUs and the cluster has 0"):
        entered(config(), FakeRay(), monkeypatch)
