"""The worker processes as the command sees them: one a variant, alive for the whole bench, asked one at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

import psutil

from rewards.pool.worker_handle import import_paths
from rl.bench.contract import (
    Answer,
    Assignment,
    Broken,
    FloorMeasured,
    Request,
    Seated,
    StepTaken,
    VariantFailed,
)
from rl.process.peak import peak_bytes

AnswerT = TypeVar("AnswerT", bound=Answer)
START_S, STEP_S, FLOOR_S = 300.0, 300.0, 300.0  # a first step may have to compile
_PATIENCE_S = 5.0
_WORKER = ("-m", "rl.bench.worker")


@dataclass
class WorkerTimes:
    """Seconds until a worker counts as hung."""

    start: float = START_S
    step: float = STEP_S
    floor: float = FLOOR_S


class BenchProcess:
    """``with BenchProcess(assignment) as worker: worker.wait_ready(); worker.step()``. Idle it blocks on a socket."""

    def __init__(self, assignment: Assignment, times: WorkerTimes | None = None) -> None:
        self._times = times or WorkerTimes()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *_WORKER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to the command alone
                env={  # on the CPU, where the floor is measured too
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(import_paths()),
                    "CUDA_VISIBLE_DEVICES": "",
                },
            )
        self._connection = Connection(ours.detach())
        self._peak_mb: dict[int, float] = {}
        with suppress(BrokenPipeError):  # it died at once: the first answer says so
            self._connection.send(assignment)

    def wait_ready(self) -> None:
        """Raises: VariantFailed."""
        self._answer(Seated, self._times.start, "loading")

    def step(self) -> StepTaken:
        """Raises: VariantFailed."""
        return self._asked("step", StepTaken, self._times.step, "a step")

    def floor(self) -> FloorMeasured:
        """Raises: VariantFailed."""
        return self._asked("floor", FloorMeasured, self._times.floor, "its floor")

    def peak_mb(self) -> float:
        """Largest resident memory so far of the process and those it started, each at its own moment. Pages that
        several of them map count for each."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            for one in (process, *process.children(recursive=True)):
                self._peak_mb[one.pid] = max(self._peak_mb.get(one.pid, 0.0), peak_bytes(one.pid) / 2**20)
        return sum(self._peak_mb.values())

    def close(self) -> None:
        """Hangs up, waits a moment, then kills what is left."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _asked(self, request: Request, kind: type[AnswerT], limit_s: float, what: str) -> AnswerT:
        with suppress(BrokenPipeError):
            self._connection.send(request)
        return self._answer(kind, limit_s, what)

    def _answer(self, kind: type[AnswerT], limit_s: float, what: str) -> AnswerT:
        if not self._connection.poll(limit_s):
            raise VariantFailed(f"{what} took more than {limit_s:g} s{self._last_words()}")
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise VariantFailed(f"its process died in {what}{self._last_words()}") from error
        if isinstance(answer, Broken):
            raise VariantFailed(answer.reason)
        if not isinstance(answer, kind):
            raise VariantFailed(f"its process answered {type(answer).__name__} to {what}")
        return answer

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 4096))
        said = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; it last printed: {said[-1][:200]}" if said else ""
