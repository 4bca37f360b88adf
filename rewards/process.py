"""One worker process seen from the parent: start, ask with a deadline, kill, never leave a zombie."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil

from rewards.worker import Answer, Job, Ready, Refused, Start
from rl.types import Sample, Score, UserError

_STOP_PATIENCE_S = 2.0


class WorkerLost(Exception):
    """The worker timed out, crashed or answered out of order; it has been killed. The message says which."""


class WorkerProcess:
    """A live worker process. Starting only spawns it; ``wait_ready`` awaits the handshake."""

    def __init__(self, name: str, use: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.scored = 0
        self._jobs = 0
        self._ready = False
        self._killed = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rewards.worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # away from the terminal's Ctrl-C; and its children die with it
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )
        self._connection = Connection(ours.detach())
        self._started = time.monotonic()
        self._connection.send(Start(name, use, dict(options)))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def rss_mb(self) -> float:
        """Resident memory of the worker in MiB, 0 if it is gone."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.NoSuchProcess:
            return 0.0

    def wait_ready(self, start_timeout_s: float) -> None:
        """Await the handshake, counted from the spawn.

        Raises ``UserError`` if the reward cannot be loaded, ``WorkerLost`` if the process died or is too slow.
        """
        if self._ready:
            return
        left = max(0.1, start_timeout_s - (time.monotonic() - self._started))
        reply = self._exchange(None, left, f"did not start within {start_timeout_s:g} s")
        if isinstance(reply, Refused):
            self.stop()
            raise UserError(reply.message)
        if not isinstance(reply, Ready):
            raise self._lost(f"answered the handshake with {type(reply).__name__}")
        self._ready = True

    def score(self, samples: Sequence[Sample], timeout_s: float) -> list[Score]:
        """Scores of ``samples`` in order. Raises ``WorkerLost`` if no valid answer comes within ``timeout_s``."""
        self._jobs += 1
        answer = self._exchange(Job(self._jobs, tuple(samples)), timeout_s, f"timed out after {timeout_s:g} s")
        wanted = tuple(sample.id for sample in samples)
        if not isinstance(answer, Answer) or (answer.number, answer.ids) != (self._jobs, wanted):
            raise self._lost("answered for other samples than it was asked about")
        if len(answer.scores) != len(samples):
            raise self._lost(f"answered {len(answer.scores)} scores for {len(samples)} samples")
        self.scored += len(samples)
        return list(answer.scores)

    def _exchange(self, message: Job | None, timeout_s: float, late: str) -> object:
        # The deadline kills the process, which ends a blocked send as well as a blocked or half-done receive.
        deadline = threading.Timer(timeout_s, self._kill_group)
        deadline.start()
        began = time.monotonic()
        try:
            if message is not None:
                self._connection.send(message)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            timed_out = time.monotonic() - began >= timeout_s
            raise self._lost(late if timed_out else None) from error
        finally:
            deadline.cancel()

    def _lost(self, reason: str | None) -> WorkerLost:
        if reason is None:
            reason = f"worker died{self._exit_words()}"
        self.kill()
        return WorkerLost(reason + self._last_words())

    def _exit_words(self) -> str:
        try:
            code = self._process.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return " (it closed its connection)"
        if code == -signal.SIGKILL:
            return " (killed; out of memory?)"
        return f" (signal {signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"

    def _last_words(self) -> str:
        """The last line the worker printed, which is usually why it died."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 4096))
        lines = self._log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"; it last printed: {said[-1][:200]}" if said else ""

    def stop(self) -> None:
        """Ask the worker to end by closing the connection, then kill what is left; reaped either way."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_PATIENCE_S)
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """Kill the worker and its children now, and reap it."""
        self._kill_group()
        self._process.wait()

    def _kill_group(self) -> None:
        if self._killed:  # once only: the number may belong to somebody else by the next time
            return
        self._killed = True
        with suppress(ProcessLookupError):  # already gone
            os.killpg(self._process.pid, signal.SIGKILL)
