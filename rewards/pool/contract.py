"""What the pool asks of a worker, wherever it runs."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from rewards.pool.submission import Ticket
from rl.types import Score


class WorkerLost(Exception):
    """The worker timed out, crashed or answered out of order; it has been killed. The message says which."""


class Worker(Protocol):
    """A live worker somewhere: ``rewards.pool.local_worker`` on this machine, ``rewards.pool.ray_worker`` on a cluster.

    Making one only starts it, and raises ``WorkerLost`` if there is no room for it. Every call but ``kill`` and the
    properties comes from one thread.
    """

    scored: int
    """Samples answered so far."""
    grown: bool
    """Whether it held too much memory after the last answer (``rewards.pool.memory``)."""
    version: str
    """Version of the reward's code, known once ready."""
    probed: bool
    """Whether the golden probe showed it alive, known once ready."""

    @property
    def pid(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def wait_ready(self, start_timeout_s: float) -> None:
        """Raises ``UserError`` if the reward cannot be loaded, ``WorkerLost`` if that takes too long."""

    def score(self, ticket: Ticket, timeout_s: float) -> list[Score]:
        """Raises ``WorkerLost`` if no valid answer comes in time; the worker is killed by then."""

    def kill(self) -> None:
        """At once, from any thread, also in the middle of a call."""

    def stop(self) -> None:
        """Ends it and lets go of what it holds."""


def import_paths() -> list[str]:
    """Where the parent finds modules."""
    return [path or os.getcwd() for path in sys.path]
