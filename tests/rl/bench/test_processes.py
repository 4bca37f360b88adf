"""The seam to the worker processes, with workers that fail before anything heavy is loaded."""

from __future__ import annotations

import pytest

from rl.bench import processes
from rl.bench.contract import Assignment, VariantFailed
from rl.bench.processes import BenchProcess, WorkerTimes


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PATIENCE_S", 0.1)


def failure(assignment: Assignment, times: WorkerTimes | None = None) -> str:
    worker = BenchProcess(assignment, times)
    try:
        with pytest.raises(VariantFailed) as told:
            worker.wait_ready()
        return str(told.value)
    finally:
        worker.close()


def test_a_mistake_in_the_worker_is_its_sentence() -> None:
    assert "train.steeps" in failure(Assignment("ours", "train: {steeps: 3}\nrewards: {geneval: {use: geneval}}\n"))


def test_a_worker_that_dies_or_is_too_slow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_WORKER", ("-c", "print('out of luck'); raise SystemExit(3)"))
    assert failure(Assignment("trl", "")) == "its process died in loading; it last printed: out of luck"
    monkeypatch.setattr(processes, "_WORKER", ("-c", "import time; time.sleep(60)"))
    assert failure(Assignment("trl", ""), WorkerTimes(start=0.2)) == "loading took more than 0.2 s"


def test_peak_memory_is_that_of_the_process_and_of_those_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    child = "import time; held = b'x' * 60_000_000; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    monkeypatch.setattr(processes, "_WORKER", ("-c", parent))
    worker = BenchProcess(Assignment("ours", ""))
    try:
        for _ in range(100):
            if worker.peak_mb() > 60:
                break
            with pytest.raises(VariantFailed):
                worker._answer(object, 0.1, "waiting")  # type: ignore[type-var]
        assert 60 < worker.peak_mb() < 200
    finally:
        worker.close()
