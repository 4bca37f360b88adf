"""Workers as the pool sees them: what all have in common, and a process of this machine: start, ask with a deadline,
kill, never leave a zombie. ``rewards.pool.worker`` is what runs in the process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from abc import ABC, abstractmethod
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path

from rewards.pool.messages import Ready, Refused, Start, WorkerRequest, checked_reply
from rewards.pool.submission import Call
from rl import OWN_PACKAGES
from rl.types import Score, UserError

_STOP_PATIENCE_S = 2.0
_IN_ITS_OWN_ENVIRONMENT = """
import sys
ours = [path for path in sys.argv.pop().split("\\n") if path not in sys.path]
sys.path = [path for path in sys.path if path] + ours  # behind its own packages
from rewards.pool.worker import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""


_live: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()


def kill_workers() -> None:
    """Every worker process of this one and their children, at once: for a process that is about to end."""
    for worker in list(_live):
        worker.kill_group()


class WorkerLost(Exception):
    """The worker timed out, crashed or answered out of order; it has been killed. The message says which."""


class Worker(ABC):
    """A live worker somewhere: a process of this machine, ``rewards.pool.ray_worker`` on a cluster.

    Making one only starts it, and raises ``WorkerLost`` if there is no room for it. Every call but ``kill`` and
    ``alive`` comes from one thread.
    """

    def __init__(self, start: Start) -> None:
        self.pid = 0
        """0 while it is not known."""
        self.scored = 0
        """Samples answered so far."""
        self.grown = False
        """Whether it held too much memory after the last answer (``rewards.pool.memory``)."""
        self.version = ""
        """Version of the reward's code, known once ready."""
        self.probed = False
        """Whether the golden probe showed it alive, known once ready."""
        self._start = start
        self._started = time.monotonic()
        self._requests = 0

    def wait_ready(self, start_timeout_s: float) -> None:
        """Awaits the loaded reward, counted from the start.

        Raises ``UserError`` if the reward cannot be loaded, ``WorkerLost`` if the worker died or is too slow.
        """
        if self.version:
            return
        left = max(0.1, start_timeout_s - (time.monotonic() - self._started))
        reply = self._reply(None, left, f"did not start within {start_timeout_s:g} s")
        if isinstance(reply, Refused):
            self.kill()
            raise UserError(reply.explain(self._start))
        if not isinstance(reply, Ready):
            raise self._lost(f"answered the handshake with {type(reply).__name__}")
        self.pid, self.version, self.probed = reply.pid, reply.version, reply.probed

    def score(self, call: Call, timeout_s: float) -> list[Score]:
        """Scores of the call's samples in order.

        Raises ``WorkerLost`` if no valid answer comes in time; the worker is killed by then.
        """
        self._requests += 1
        reply = self._reply(call, timeout_s, f"timed out after {timeout_s:g} s")
        try:
            checked = checked_reply(reply, self._requests, [sample.id for sample in call.samples])
        except ValueError as error:
            raise self._lost(str(error)) from error
        self.scored += len(checked.scores)
        self.grown = checked.grown
        if checked.kept:
            call.submission.kept = True
        return list(checked.scores)

    @property
    @abstractmethod
    def alive(self) -> bool: ...

    @abstractmethod
    def kill(self) -> None:
        """At once, from any thread, also in the middle of a call."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it and lets go of what it holds."""

    @abstractmethod
    def _reply(self, call: Call | None, timeout_s: float, late: str) -> object:
        """Sends the call and awaits its reply; of ``None`` the reply to ``Start``.

        Raises ``WorkerLost``, with the reason ``late`` if it does not come in time.
        """

    def _lost(self, reason: str) -> WorkerLost:
        self.kill()
        return WorkerLost(reason)


class WorkerProcess(Worker):
    """A worker process of this machine. Starting only spawns it."""

    def __init__(self, start: Start, cuda_devices: str) -> None:
        """``cuda_devices``: what it may see as ``CUDA_VISIBLE_DEVICES``. Raises ``WorkerLost``, see there."""
        super().__init__(start)
        self._killed = False
        try:
            self._spawn(cuda_devices)
        except OSError as error:  # too many processes or open files, no memory
            raise WorkerLost(f"could not be started: {error}") from error
        self.pid = self._process.pid
        _live.add(self)
        with suppress(BrokenPipeError):  # it died at once: the handshake says so
            self._connection.send(start)

    def _spawn(self, cuda_devices: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                _command(self._start.needs.python, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # away from the terminal's Ctrl-C; and its children die with it
                env=_environment(self._start, cuda_devices),
            )
        self._connection = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _reply(self, call: Call | None, timeout_s: float, late: str) -> object:
        # The deadline kills the process, which ends a blocked send as well as a blocked or half-done receive.
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.kill_group()

        deadline = threading.Timer(timeout_s, expire)
        deadline.start()
        try:
            if call is not None:
                self._send(call)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost(late if expired.is_set() else f"worker died{self._exit_words()}") from error
        finally:
            deadline.cancel()

    def _send(self, call: Call) -> None:
        self._connection.send(WorkerRequest(self._requests, call.shared_samples))
        send_handle(self._connection, call.submission.memory.fd, self.pid)

    def _lost(self, reason: str) -> WorkerLost:
        return super()._lost(reason + self._last_words())

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
        self.kill_group()
        self._process.wait()

    def kill_group(self) -> None:
        """Kill it without waiting for its end."""
        if self._killed:  # once only: the number may belong to somebody else by the next time
            return
        self._killed = True
        with suppress(ProcessLookupError):  # already gone
            os.killpg(self._process.pid, signal.SIGKILL)


def _command(python: str | None, fd: int) -> list[str]:
    if python is None:
        # -P: the current folder is among the import paths, behind ours; here it would stand before them
        return [sys.executable, "-P", "-m", "rewards.pool.worker", str(fd), str(os.getpid())]
    ours = [_home(), os.getcwd()]
    return [python, "-c", _IN_ITS_OWN_ENVIRONMENT, str(fd), str(os.getpid()), "\n".join(ours)]


def _environment(start: Start, cuda_devices: str) -> dict[str, str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": cuda_devices, **start.needs.environment(start.threads)}
    if start.needs.python is None:
        return {**environment, "PYTHONPATH": os.pathsep.join(import_paths())}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):  # the parent's, where nothing of it may be found
        environment.pop(name, None)
    return environment


def import_paths() -> list[str]:
    """Where the parent finds modules; before all, this package's own folder, if a user's rewards.py would be found."""
    paths = [path or os.getcwd() for path in sys.path]
    earlier = paths[: paths.index(_home())] if _home() in paths else paths
    names = [name for package in OWN_PACKAGES for name in (package, f"{package}.py")]
    in_the_way = any(os.path.exists(os.path.join(path, name)) for path in earlier for name in names)
    return [_home(), *paths] if in_the_way else paths


def _home() -> str:
    return str(Path(__file__).resolve().parents[2])
