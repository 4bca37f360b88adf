"""The workers of one role: started, replaced when they die, and asked, each question with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from rl.cluster.jobs import RoleName, WorkerStart
from rl.cluster.machines import lacking
from rl.cluster.places import WorkerNeeds
from rl.cluster.worker.actor import start_actor
from rl.config.sections.cluster import ClusterConfig
from rl.config.sections.cluster_rules import counted
from rl.run_folder.usage import WORKER_WORDS
from rl.types import RunFailure, UserError

_WAKE_S = 0.5


@dataclass
class _Worker:
    actor: Any
    ready: bool = False
    calls: int = 0
    """That it has not answered yet."""
    since: float = 0.0
    """When it got the first of them."""

    def worked(self) -> float:
        return time.monotonic() - self.since if self.calls else 0.0


class WorkerFailed(Exception):
    """A call came to nothing. ``dead``: so did the worker."""

    def __init__(self, reason: str, *, dead: bool) -> None:
        super().__init__(reason)
        self.dead = dead


class Crew:
    """``count`` workers at all times, as long as new ones can be started. May be used from several threads.

    ``ready`` and ``lost`` hear the names of workers that have loaded, and of those that are dead, with the reason.
    """

    def __init__(self, role: RoleName, size: int, needs: WorkerNeeds, config: ClusterConfig) -> None:
        self.role, self.size, self.config = role, size, config
        self.ready: Callable[[str, RoleName], None] = lambda name, role: None
        self.lost: Callable[[str, str], None] = lambda name, reason: None
        self.restarts = 0
        self._worked = 0.0
        self._needs = needs
        self._workers: dict[str, _Worker] = {}
        self._changed = threading.Condition()
        self._numbers = count()
        self._start: WorkerStart | None = None
        self._refused, self._problem, self._failures, self._closed = "", "", 0, False
        for _ in range(size):  # their processes come up while this one loads
            self._hire()

    def load(self, start: WorkerStart) -> None:
        """Their networks, all at the same time; ``wait`` awaits them."""
        with self._changed:
            self._start = start
            for name, worker in self._workers.items():
                self._load(name, worker)

    def wait(self) -> None:
        """Until all are there. Raises: UserError, RunFailure."""
        self._until(lambda: sum(worker.ready for worker in self._workers.values()) == self.size)

    def names(self) -> list[str]:
        """Of those that are ready."""
        with self._changed:
            return [name for name, worker in self._workers.items() if worker.ready]

    def submit(self, name: str, version: int | None, job: object, *, returns: int = 1) -> list[Any] | None:
        """The references of what a worker will answer; ``None``: it is gone."""
        with self._changed:
            worker = self._workers.get(name)
            if worker is None:
                return None
            if not worker.calls:
                worker.since = time.monotonic()
            worker.calls += 1
        promise = worker.actor.work.options(num_returns=returns).remote(version, job)
        return promise if returns > 1 else [promise]

    def answered(self, name: str) -> None:
        """One of the calls that were submitted has ended."""
        with self._changed:
            worker = self._workers.get(name)
            if worker is not None and worker.calls:  # else it is told twice
                done = worker.worked()
                worker.calls -= 1
                self._worked += 0.0 if worker.calls else done

    def worked(self) -> float:
        """Seconds that all of them together have had something to do, until now."""
        with self._changed:
            return self._worked + sum(worker.worked() for worker in self._workers.values())

    def ask(self, version: int | None, job: object, *, returns: int = 1) -> Any:
        """Of whoever is least busy; of another one if that one dies on it. Several ``returns`` come as a list. Raises:
        RunFailure."""
        reasons: list[str] = []
        for _ in range(self.config.attempts):
            name = self._least_busy()
            if (references := self.submit(name, version, job, returns=returns)) is None:
                continue
            try:
                found = [self._get(name, reference) for reference in references]
                return found if returns > 1 else found[0]
            except WorkerFailed as error:
                reasons.append(f"{name}: {error}")
                if error.dead:
                    self.dismiss(name, str(error))
            finally:
                self.answered(name)
        raise RunFailure(
            f"{counted(len(reasons), WORKER_WORDS[self.role])} failed on one question; the last, {reasons[-1]}"
        )

    def hold(self, version: int, part: str = "ar") -> list[float]:
        """Everybody who has nothing else to do takes these weights of a part; what their canaries say. Raises:
        RunFailure where one disagrees."""
        with self._changed:
            idle = [(name, one.actor) for name, one in self._workers.items() if one.ready and not one.calls]
        return self._answers([(name, actor.hold.remote(version, part)) for name, actor in idle])

    def sleep(self, level: int) -> None:
        """Everybody lends its memory when it has done what it is at. Raises: UserError, RunFailure if one can't."""
        with self._changed:
            ready = [(name, one.actor) for name, one in self._workers.items() if one.ready]
        self._answers([(name, actor.sleep.remote(level)) for name, actor in ready])

    def dismiss(self, name: str, reason: str) -> None:
        """It is dead, or is now; another one takes its place."""
        with self._changed:
            worker = self._workers.pop(name, None)
            if worker is None:
                return
            self._worked += worker.worked()
            _kill(worker)
            if not self._closed:
                self.restarts += 1
                self._hire()
        self.lost(name, reason)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for worker in self._workers.values():
                _kill(worker)
            self._workers.clear()
            self._changed.notify_all()

    def _hire(self) -> None:
        """Inside the lock, or before anybody knows of it."""
        name, worker = f"{WORKER_WORDS[self.role]}-{next(self._numbers)}", _Worker(start_actor(self._needs))
        self._workers[name] = worker
        if self._start is not None:
            self._load(name, worker)

    def _load(self, name: str, worker: _Worker) -> None:
        reference = worker.actor.load.remote(self.role, self._start)
        reference.future().add_done_callback(partial(self._loaded, name))
        late = threading.Timer(self.config.start_timeout_s, self._too_late, [name])
        late.daemon = True
        late.start()

    def _loaded(self, name: str, future: Future[str | None]) -> None:
        """Called by Ray's own thread."""
        error = future.exception()
        refused = "" if error is not None else future.result() or ""
        if error is not None:  # elsewhere, for it may start another one, which waits for this thread
            threading.Thread(target=self._not_loaded, args=[name, _told(error)], daemon=True).start()
        with self._changed:
            worker = self._workers.get(name)
            if refused:
                self._refused = refused
            elif worker is not None and error is None:
                worker.ready, self._failures = True, 0
            self._changed.notify_all()
        if worker is not None and worker.ready:
            self.ready(name, self.role)

    def _too_late(self, name: str) -> None:
        with self._changed:
            worker = self._workers.get(name)
            if worker is None or worker.ready or self._closed:
                return
        room = "has the cluster the CPUs and GPUs that it asks for?"
        self._not_loaded(name, f"has not loaded within {self.config.start_timeout_s:g} s ({room})")

    def _not_loaded(self, name: str, reason: str) -> None:
        """Another one tries, unless several in a row have failed: then nobody is left, which the scheduler notices."""
        with self._changed:
            if self._closed or name not in self._workers:
                return
            self._failures += 1
            self._problem = f"{name} {reason}"
            if self._failures >= self.config.attempts:
                _kill(self._workers.pop(name))
                self._changed.notify_all()
                return
        self.dismiss(name, reason)

    def _least_busy(self) -> str:
        self._until(lambda: any(worker.ready for worker in self._workers.values()))
        with self._changed:
            ready = {name: worker.calls for name, worker in self._workers.items() if worker.ready}
        return min(ready, key=lambda name: ready[name])

    def _until(self, there: Callable[[], bool]) -> None:
        """Raises: UserError if a worker can't load through a mistake, RunFailure if none comes in time."""
        last = time.monotonic() + self.config.start_timeout_s
        while True:
            with self._changed:
                if self._refused:
                    raise UserError(self._refused)
                if there():
                    return
                if self._failures >= self.config.attempts or time.monotonic() > last:
                    why = self._problem or f"none was ready within {self.config.start_timeout_s:g} s"
                    raise RunFailure(f"no {WORKER_WORDS[self.role]} could be started: {why}")
                self._changed.wait(_WAKE_S)  # awake: a signal is handled between two waits

    def _answers(self, asked: Sequence[tuple[str, Any]]) -> list[Any]:
        """Of those who do not die on it. Raises: UserError, RunFailure where one raises it."""
        found = []
        for name, reference in asked:
            try:
                found.append(self._get(name, reference))
            except WorkerFailed as error:
                self.dismiss(name, str(error))
                for kind in (UserError, RunFailure):
                    if isinstance(error.__cause__, kind):
                        raise kind(f"{name}: {error}") from error.__cause__
        return found

    def _get(self, name: str, reference: Any) -> Any:
        """Raises: WorkerFailed."""
        last = time.monotonic() + self.config.timeout_s
        while True:
            try:
                return ray.get(reference, timeout=_WAKE_S)
            except GetTimeoutError as error:
                if time.monotonic() > last:
                    raise WorkerFailed(f"has not answered for {self.config.timeout_s:g} s", dead=True) from error
            except RayError as error:
                raise failure(error) from cause_of(error)


def failure(error: BaseException) -> WorkerFailed:
    """What an answer that is an error says of the worker: a process that is gone, or an engine that can't be used any
    more, is dead; whatever else a call raises, the worker lives."""
    dead = not isinstance(error, RayTaskError) or isinstance(cause_of(error), RunFailure)
    return WorkerFailed(_told(error), dead=dead)


def cause_of(error: BaseException) -> BaseException:
    """What was raised in the worker, where something was."""
    return error.cause if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) else error


def _told(error: BaseException) -> str:
    cause = cause_of(error)
    if missing := lacking(cause):
        return f"can't import easel-rl on its machine ({missing}): install the same version there"
    words = " ".join(str(cause).split("\n")[0].split())[:300]
    if isinstance(cause, (UserError, RunFailure)):
        return words
    if isinstance(error, RayTaskError):
        return f"raised {type(cause).__name__}: {words}"
    return f"died ({type(error).__name__}: {words})"


def _kill(worker: _Worker) -> None:
    ray.kill(worker.actor)
