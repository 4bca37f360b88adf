"""Faults on the run's side: answers that come twice, and pictures whose reference leads nowhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray

from rl.cluster.crew import Crew
from tests.rl.cluster.faulting.book import Fault, FaultBook
from tests.rl.cluster.faulting.session import groups_of

_AGAIN_S = 0.2


@dataclass
class Repeating:
    """A promise whose answer is delivered a second time."""

    promise: Any

    def future(self) -> Repeating:
        return Repeating(self.promise.future())

    def add_done_callback(self, heard: Callable[[Future[Any]], None]) -> None:
        def twice(future: Future[Any]) -> None:
            heard(future)
            threading.Timer(_AGAIN_S, heard, [future]).start()

        self.promise.add_done_callback(twice)


def disturbed(crew: Crew, book: FaultBook, lost: Any) -> None:
    """``lost``: a reference of what is gone."""
    submit = crew.submit

    def submitted(name: str, version: int | None, job: Any, *, returns: int = 1) -> list[Any] | None:
        promised = submit(name, version, job, returns=returns)
        struck = book.claim(crew.role, groups_of(job)) if promised else None
        if promised and struck:
            place = 0 if struck.fault is Fault.TWICE else 1
            promised[place] = Repeating(promised[0]) if place == 0 else lost
        return promised

    crew.submit = submitted  # type: ignore[method-assign]


class _Owner:
    def lay(self) -> list[Any]:
        return [ray.put(bytes(1 << 18))]


def something_lost() -> Any:
    """The reference of an object of a process that is dead."""
    owner = ray.remote(_Owner).options(num_cpus=0).remote()
    (reference,) = ray.get(owner.lay.remote())
    ray.kill(owner)
    return reference
