"""Hundreds of faults of every kind: nothing is lost or doubled, and what is learnt is what it would have been."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import ray

from rl.cluster import ahead, crew
from rl.cluster.weights.server import FetchFrom, WeightServer
from rl.cluster.weights.store import WeightStore
from rl.cluster.worker import actor
from tests.rl.cluster.faulting import engines, invented
from tests.rl.cluster.faulting.account import table
from tests.rl.cluster.faulting.book import Fault, FaultBook, FaultPlan
from tests.rl.cluster.faulting.delivery import disturbed, something_lost
from tests.rl.cluster.faulting.session import Outcome, configuration, drawn, run

STEPS, MOST = 24, 200
COUNTS = {
    # these end a process, and another one takes 6 CPU seconds to come up
    Fault.EXIT: 6,
    Fault.EXIT_AFTER: 4,
    Fault.KILLED: 4,
    Fault.HANGS: 4,
    Fault.OLD: 4,
    Fault.LIVE: 4,
    # these do not
    Fault.SLOW: 20,
    Fault.RAISES: 45,
    Fault.ON_THE_WAY: 35,
    Fault.STORE_FULL: 16,
    Fault.LOST: 30,
    Fault.TWICE: 40,
    Fault.LATE: 8,
}


def told(disturbed: Outcome, plan: FaultPlan, folder: Path) -> str:
    """The account of a run in which all of the plan has happened: nothing lost, doubled or made with other weights."""
    books = [FaultBook(folder / "faults" / side) for side in ("run", "workers")]
    assert [name for book in books for name in book.left()] == []
    struck = [one for book in books for one in book.struck()]
    assert len(struck) + len(plan.late) == plan.count
    audit = disturbed.account.audit
    assert (audit.lost, audit.doubled, audit.wrong, audit.failed) == (0, 0, 0, 0)
    assert sum("the live parameter" in one for one in disturbed.said) == list(plan.calls.values()).count(Fault.LIVE)
    assert set(disturbed.given.values()) == {1}  # nor has a reward seen a picture twice
    recovery = disturbed.account.recovery(struck, plan.keys)
    if plan.late:
        recovery[Fault.LATE] = list(plan.late.values())
    ends = f"{plan.count} faults, {disturbed.restarts} workers replaced: 0 groups lost, 0 doubled"
    return f"{table(recovery)}\n{ends}"


def test_a_dozen_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads in place of Ray's processes."""
    for module in (ahead, crew):
        monkeypatch.setattr(module, "ray", invented.InventedRay)
    monkeypatch.setattr(crew, "start_actor", invented.InventedActor)
    monkeypatch.setattr(engines, "SLOW_S", 0.3)

    def end() -> None:
        raise invented.Gone

    monkeypatch.setattr(engines, "end_process", end)

    def serve(name: str, room: int) -> partial[bytes]:
        return partial(_read, WeightStore.open(name, room=room))

    kinds = (Fault.EXIT, Fault.HANGS, Fault.OLD, Fault.LIVE, Fault.SLOW, Fault.RAISES, Fault.ON_THE_WAY, Fault.LOST)
    sizes = ["cluster.samplers=3", "cluster.painters=3", "cluster.timeout_s=1.5"]
    config = configuration(tmp_path / "disturbed", *sizes)
    plan = drawn(config, 4, {**dict.fromkeys((*kinds, Fault.TWICE), 2), Fault.LATE: 1}, late_s=0.2)
    try:
        found = run(config, 4, serve, plan, partial(disturbed, lost=invented.LOST))
    finally:
        engines.for_ever.set()
    undisturbed = run(configuration(tmp_path / "undisturbed"), 4, serve)
    print(told(found, plan, tmp_path / "disturbed"))
    assert (found.learnt, found.weights) == (undisturbed.learnt, undisturbed.weights)


@dataclass
class Serving:
    """Sends each run's weights, and keeps what is said of its servers."""

    servers: list[WeightServer] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def __call__(self, name: str, room: int) -> FetchFrom:
        self.servers.append(WeightServer(name, room, self.heard.append))
        return self.servers[-1].fetch

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_process_that_sends_weights_is_killed_again_and_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever there are new weights, for which everybody is about to ask it."""
    monkeypatch.setattr(actor, "_Actor", engines.LightActor)
    killed: list[int] = []
    with Serving() as serving:

        def kill() -> None:
            server = serving.servers[-1]._actor
            killed.append(ray.get(server.__ray_call__.remote(lambda _: os.getpid())))
            os.kill(killed[-1], signal.SIGKILL)

        found = run(configuration(tmp_path / "disturbed", "cluster.painters=2"), 4, serving, pushed=kill)
        undisturbed = run(configuration(tmp_path / "undisturbed"), 4, serving)
        assert serving.heard == []
    assert len(set(killed)) == 4  # each time another process
    assert (found.learnt, found.weights, found.restarts) == (undisturbed.learnt, undisturbed.weights, 0)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_hundred_faults_of_real_processes(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "_Actor", engines.LightActor)
    sizes = ["cluster.samplers=3", "cluster.painters=3", "cluster.timeout_s=10"]
    config = configuration(tmp_path / "disturbed", *sizes)
    plan = drawn(config, STEPS, COUNTS)
    assert plan.count >= MOST
    with Serving() as serving:
        with executioner(tmp_path / "disturbed" / "doomed"):
            found = run(config, STEPS, serving, plan, partial(disturbed, lost=something_lost()))
        undisturbed = run(configuration(tmp_path / "undisturbed"), STEPS, serving)
    print(told(found, plan, tmp_path / "disturbed"))
    assert (found.learnt, found.weights) == (undisturbed.learnt, undisturbed.weights)
    assert len(found.learnt) == STEPS


@contextmanager
def executioner(doomed: Path) -> Iterator[None]:
    """Kills the processes whose numbers are laid down there, from outside."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for path in doomed.glob("*"):
                path.unlink()
                os.kill(int(path.name), signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _read(store: WeightStore, version: int, file: str, start: int, size: int) -> bytes:
    return store.read(version, file, start, size)
