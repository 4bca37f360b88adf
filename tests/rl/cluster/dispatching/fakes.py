"""Workers and a desk that are a few lines, and a dispatcher that drives a scheduler with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ray.exceptions import ActorDiedError

from rl.cluster.dispatcher import Dispatcher
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import Lease, Stage, WorkPlan


@dataclass
class FakeCrew:
    """Answers at once: with the weights that were asked for, or what ``fates`` holds for the call, an answer too."""

    role: str
    workers: list[str]
    fates: list[object] = field(default_factory=list)
    poison: str = ""
    """Jobs that name it kill who gets them."""
    unanswered: list[tuple[Future[Any], int]] = field(default_factory=list)
    """Calls of fate ``silence``, with the version that was asked for."""
    calls: list[tuple[str, int, Any]] = field(default_factory=list)
    dismissed: list[tuple[str, str]] = field(default_factory=list)
    ready: Any = None
    lost: Any = None

    def names(self) -> list[str]:
        return list(self.workers)

    def submit(self, name: str, version: int, job: object, *, returns: int = 1) -> list[Any] | None:
        if name not in self.workers:
            return None
        self.calls.append((name, version, job))
        fate = self.fates.pop(0) if self.fates else None
        if self.poison and self.poison in str(job):
            fate = ActorDiedError()
        future: Future[Any] = Future()
        if isinstance(fate, BaseException):
            future.set_exception(fate)
        elif isinstance(fate, SimpleNamespace):
            future.set_result(fate)
        elif fate == "silence":
            self.unanswered.append((future, version))
        else:
            future.set_result(SimpleNamespace(version=version if fate is None else fate))
        return [SimpleNamespace(future=lambda: future), "pictures"][:returns]

    def answer(self, number: int) -> None:
        """A call that was left unanswered, at last."""
        future, version = self.unanswered[number]
        future.set_result(SimpleNamespace(version=version))

    def answered(self, name: str) -> None: ...

    def dismiss(self, name: str, reason: str) -> None:
        if name in self.workers:
            self.workers.remove(name)
            self.dismissed.append((name, reason))
            new = f"{self.role}-{len(self.dismissed) + 10}"
            self.workers.append(new)
            self.lost(name, reason)
            self.ready(new, self.role)


@dataclass
class FakeDesk:
    troubles: list[Exception] = field(default_factory=list)
    """Raised by the first pictures that are taken in, one each."""
    taken: list[tuple[str, int, Any]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    failures: list[tuple[str, int]] = field(default_factory=list)
    full: list[Exception] = field(default_factory=list)
    """Raised by the first jobs of painters, one each."""

    def job(self, lease: Lease) -> Any:
        if self.full and lease.stage == "paint":
            raise self.full.pop(0)
        return lease.told

    def set_of(self, version: int) -> int:
        return version + 100

    def take_in(self, lease: Lease, answer: Any, pictures: Any) -> None:
        if self.troubles and pictures is not None:
            raise self.troubles.pop(0)
        self.taken.append((lease.stage, lease.step, pictures))

    def failed(self, lease: Lease) -> None:
        self.failures.append((lease.stage, lease.step))

    def drop(self, version: int) -> None:
        self.dropped.append(version)


@contextmanager
def dispatching(
    plan: WorkPlan, *, troubles: Sequence[Exception] = (), full: Sequence[Exception] = (), **crews: FakeCrew
) -> Iterator[tuple[Dispatcher, FakeDesk, list[str]]]:
    desk, said = FakeDesk(list(troubles), full=list(full)), list[str]()
    dispatcher = Dispatcher(Scheduler(plan, at=0.0), crews, desk, said.append)  # type: ignore[arg-type]
    dispatcher.start()
    try:
        yield dispatcher, desk, said
    finally:
        dispatcher.close()


def plan(steps: int, staleness: int = 0, **options: Any) -> WorkPlan:
    stages = (Stage("sample", 2, 1e6, blocks=True), Stage("paint", 1, 1e6, blocks=True))
    return WorkPlan(steps, 2, staleness, stages, **{"absence": 1e9, "update_deadline": 1e9, **options})


def crews() -> dict[str, FakeCrew]:
    return {role: FakeCrew(role, [f"{role}-0", f"{role}-1"]) for role in ("sample", "paint")}
