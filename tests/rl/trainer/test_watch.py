"""Ranks that are gone, silent or stuck, each told in a sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch.distributed as dist

from rl.process.ranks import Place
from rl.trainer import watch as module
from rl.trainer.watch import Resident, Watch


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "_UNWIND_S", 0.05)


@contextmanager
def another_process() -> Iterator[tuple[subprocess.Popen[bytes], Resident]]:
    import psutil

    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process, replace(Resident.here(), pid=process.pid, started=psutil.Process(process.pid).create_time())
    finally:
        process.kill()
        process.wait()


def announce(store: dist.Store, rank: int, there: Resident, progress: int = 0) -> None:
    store.set(f"here/{rank}", json.dumps(asdict(there)))
    store.set(f"beat/{rank}", f"1 {progress}")


def watching(store: dist.Store, rank: int, world: int, **options: Any) -> tuple[Watch, list[str | None]]:
    ended: list[str | None] = []
    return Watch(store, Place(rank=rank, world=world), ended.append, **options), ended


def wait_until(ended: list[str | None]) -> str | None:
    deadline = time.monotonic() + 10
    while not ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ended[0]


def test_rank_0_names_a_process_that_is_gone() -> None:
    store = dist.HashStore()
    with another_process() as (process, there):
        announce(store, 1, there)
        watch, ended = watching(store, 0, 2)
        time.sleep(0.1)
        assert not ended
        process.kill()
        assert wait_until(ended) == (
            f"rank 1 of 2 (process {there.pid} on {there.host}) was killed or ended; the other ranks end as well, and "
            "--resume goes on from the last checkpoint"
        )
        watch.stop()


def test_a_stopped_process_is_named_and_killed_unless_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.6)
    store = dist.HashStore()
    with another_process() as (process, there):
        announce(store, 1, there)
        watch, ended = watching(store, 0, 2)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.6)
        assert not ended and process.poll() is None
        process.send_signal(signal.SIGSTOP)
        assert wait_until(ended) == (
            f"rank 1 of 2 (process {there.pid} on {there.host}) was stopped by a signal (SIGSTOP) and did not go on "
            "within 1 s; the other ranks end as well, and --resume goes on from the last checkpoint"
        )
        assert process.wait(5) == -signal.SIGKILL
        watch.stop()


def test_a_rank_that_fails_is_told_of_by_rank_0_while_it_waits() -> None:
    store = dist.HashStore()
    with another_process() as (_, there):
        announce(store, 1, there)
        watch, ended = watching(store, 0, 2)
        watch.way_on = lambda: "there is no checkpoint yet"
        store.set("words/1", "out of memory in 'update': lower train.micro_batch.")
        assert wait_until(ended) == (
            f"rank 1 of 2 (process {there.pid} on {there.host}) failed: out of memory in 'update': lower "
            "train.micro_batch; the other ranks end as well, and there is no checkpoint yet"
        )
        watch.stop()


def test_a_call_that_fails_because_of_it_is_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNWIND_S", 5.0)
    store = dist.HashStore()
    announce(store, 1, replace(Resident.here(), pid=2**22 + 1))
    watch, ended = watching(store, 0, 2)
    assert watch.explains() and "rank 1 of 2" in str(watch.found)
    watch.stop()
    time.sleep(0.1)
    assert not ended  # it is the main thread's to tell


def test_nothing_is_explained_while_all_live() -> None:
    store = dist.HashStore()
    with another_process() as (_, there):
        announce(store, 1, there)
        watch, ended = watching(store, 0, 2)
        assert not watch.explains(0.2) and not ended
        watch.stop()


def test_another_machine_is_found_by_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.3)
    store = dist.HashStore()
    announce(store, 1, replace(Resident.here(), host="node7"))
    watch, ended = watching(store, 0, 2)
    for beat in range(5):
        store.set("beat/1", f"{beat} 0")
        time.sleep(0.1)
    assert not ended
    assert "(process " in str(wait_until(ended)) and " on node7) has not been heard of for 0 s" in str(ended[0])
    watch.stop()


def test_ranks_that_get_nowhere_together_name_the_one_that_is_waited_for() -> None:
    store = dist.HashStore()
    with another_process() as (_, there):
        announce(store, 1, there, progress=7)
        announce(store, 2, there, progress=5)
        watch, ended = watching(store, 0, 3, deadline_s=0.3)
        watch.progress = 7
        time.sleep(0.6)
        assert not ended  # rank 0 samples; nobody waits for anybody
        watch.busy = True
        assert "rank 2 of 3" in str(wait_until(ended)) and "got nowhere for 0.3 s" in str(ended[0])
        watch.stop()


def test_a_rank_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_S", 0.1)
    watch, ended = watching(dist.HashStore(), 0, 2)
    assert str(wait_until(ended)).startswith("rank 1 of 2 has not started within 0.1 s; the other ranks end")
    watch.stop()


@pytest.mark.parametrize(("rank", "speaks"), [(1, True), (2, False)])
def test_of_those_that_are_left_the_first_tells_of_rank_0(rank: int, speaks: bool) -> None:
    store = dist.HashStore()
    with another_process() as (_, there):
        announce(store, 0, replace(there, pid=2**22 + 1))
        announce(store, 1, there)
        watch, ended = watching(store, rank, 3)
        said = wait_until(ended)
        assert ("rank 0 of 3" in str(said)) if speaks else (said is None)
        watch.stop()


def test_the_end_of_the_run_is_no_failure() -> None:
    store = dist.HashStore()
    announce(store, 0, Resident.here())
    watch, ended = watching(store, 1, 2)
    store.set("over", "")
    assert watch.explains() and watch.found is None
    watch.stop()
    assert not ended
