"""What the pool asks of a worker, and what all workers have in common, wherever they run."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod

from rewards.pool.messages import Ready, Refused, Start, checked_reply
from rewards.pool.submission import Call
from rl.types import Score, UserError


class WorkerLost(Exception):
    """The worker timed out, crashed or answered out of order; it has been killed. The message says which."""


class Worker(ABC):
    """A live worker somewhere: ``rewards.pool.local_worker`` on this machine, ``rewards.pool.ray_worker`` on a cluster.

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


def import_paths() -> list[str]:
    """Where the parent finds modules."""
    return [path or os.getcwd() for path in sys.path]
