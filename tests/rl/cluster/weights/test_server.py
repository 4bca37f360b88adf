"""Who sends weights to other machines: started again when its process dies, and a sentence when its machine is gone."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnschedulableError, GetTimeoutError, RayTaskError

from policy.trainable import WeightStream
from rl.cluster import acting
from rl.cluster.acting import acting_on_cluster
from rl.cluster.places import WorkerNeeds
from rl.cluster.weights import server
from rl.cluster.weights.manifest import MANIFEST_FILE
from rl.cluster.weights.server import FetchFrom, WeightServer
from rl.cluster.weights.sets import MissingWeights
from rl.cluster.weights.store import WeightStore
from tests.rl.cluster.placing.test_places import config
from tests.rl.run_case import ROOT, environment

ROOM = 1 << 20


class FakeActor:
    """Its first call never answers; a test ends it."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        self.stay = SimpleNamespace(remote=lambda: SimpleNamespace(future=lambda: self.future))
        self.read = SimpleNamespace(remote=lambda *what: what)

    def options(self, **told: Any) -> FakeActor:
        self.told = told
        return self

    def remote(self, *told: Any) -> FakeActor:
        return self


def fake(monkeypatch: pytest.MonkeyPatch, *, alive: bool) -> FakeActor:
    found = FakeActor()
    nodes = [{"NodeID": "a" * 56, "Alive": alive, "NodeManagerAddress": "10.0.0.7"}]
    ray = SimpleNamespace(remote=lambda **_: lambda kind: found, nodes=lambda: nodes, kill=lambda actor: None)
    monkeypatch.setattr(server, "ray", ray)
    return found


@pytest.mark.parametrize(
    ("alive", "told"),
    [
        (False, "the machine 10.0.0.7 has gone, and with it the weights that samplers and painters take"),
        (True, "the process that sends weights from the machine 10.0.0.7 can't be started (ActorUnschedulableError)"),
    ],
)
def test_the_run_hears_that_it_is_gone_for_good(alive: bool, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    actor = fake(monkeypatch, alive=alive)
    WeightServer("run", ROOM, heard.put, "a" * 56)
    assert (actor.told["max_restarts"], actor.told["max_task_retries"]) == (-1, -1)  # or Ray would not start it again
    actor.future.set_exception(ActorUnschedulableError("no such machine"))
    assert heard.get(timeout=20) == told


def test_at_the_end_of_a_run_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    actor = fake(monkeypatch, alive=True)
    serving = WeightServer("run", ROOM, heard.append, "a" * 56)
    serving.close()
    serving._tell(ActorDiedError())
    assert heard == [] and not actor.future.done()


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (ActorDiedError(), "weights of version 3: the machine that trains can't send ar.bin (ActorDiedError)."),
        (GetTimeoutError(), "weights of version 3: the machine that trains has not sent ar.bin within 120 s."),
    ],
)
def test_a_worker_that_gets_nothing_says_so(trouble: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(reference: object, timeout: float) -> None:
        raise trouble

    monkeypatch.setattr(server, "ray", SimpleNamespace(get=fails))
    with pytest.raises(MissingWeights) as caught:
        FetchFrom(FakeActor())(3, "ar.bin", 0, 10)
    assert str(caught.value) == told
    trouble = RayTaskError("read", "", MissingWeights("there is no such file")).as_instanceof_cause()
    with pytest.raises(MissingWeights) as caught:
        FetchFrom(FakeActor())(3, "ar.bin", 0, 10)
    assert caught.value is trouble  # what the store itself has said


def test_the_run_ends_at_once_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its main thread is waiting for."""
    ended: list[tuple[str, int]] = []
    interrupt: Any = SimpleNamespace(closing=[], end=lambda words, code: ended.append((words, code)))
    monkeypatch.setattr(acting, "needs_of", lambda config: {"sample": WorkerNeeds(1, 0, 1)})
    monkeypatch.setattr(acting, "Crew", lambda *_: SimpleNamespace(close=lambda: None))
    with acting_on_cluster(config(f"run.folder={tmp_path}"), 0, interrupt) as on_cluster:
        on_cluster._give_up("the machine 10.0.0.7 has gone")
    told = "the machine 10.0.0.7 has gone; there is no checkpoint yet, so --resume starts from the beginning"
    assert ended == [(f"error: the run cannot go on: {told}", 3)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_process_is_started_again_and_sends_what_it_did(address: str) -> None:
    run, heard = uuid.uuid4().hex, list[str]()
    with WeightStore.open(run, room=ROOM) as store:
        store.publish(5, {"ar": WeightStream.of([])})
        serving = WeightServer(run, ROOM, heard.append)
        before = serving.fetch(5, MANIFEST_FILE, 0, 1 << 16)
        for _ in range(2):
            os.kill(ray.get(serving._actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
            started = time.monotonic()
            assert serving.fetch(5, MANIFEST_FILE, 0, 1 << 16) == before
            print(f"again after {time.monotonic() - started:.1f} s")
        assert heard == []
        serving.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_that_dies_is_named_within_a_minute() -> None:
    """Two of Ray's machines on this one; the second is taken away."""
    code = "from tests.rl.cluster.weights.test_server import lose_a_machine as f; f()"
    with TemporaryDirectory(prefix="ray") as folder:  # a short path, and none in which others look for a cluster
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment(), "RAY_TMPDIR": folder},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert "has gone, and with it the weights that samplers and painters take" in done.stdout


def lose_a_machine() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}, connect=True)
    other = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    serving = WeightServer(uuid.uuid4().hex, ROOM, heard.put, other.node_id)
    ray.get(serving._actor.__ray_call__.remote(lambda _: 1))
    started = time.monotonic()
    cluster.remove_node(other, allow_graceful=False)
    told = heard.get(timeout=60)
    print(f"after {time.monotonic() - started:.1f} s: {told}")
    ray.shutdown()
    cluster.shutdown()
