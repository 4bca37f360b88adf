"""The scheduler's hands: its actions become calls of workers, their answers become its events, on a thread of its own.

Everything that changes the scheduler happens on that thread, one thing after the other, while the main one learns.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

from ray.exceptions import RayError

from rl.cluster.crew import Crew, failure
from rl.cluster.jobs import PaintJob, RoleName, SampleJob
from rl.scheduler.events import (
    Action,
    Answered,
    Assign,
    DropWeights,
    Event,
    KillTrainer,
    KillWorker,
    Learn,
    LeaseFailed,
    Published,
    RunDone,
    StopRun,
    TimePassed,
    TrainerReady,
    WorkerDied,
    WorkerReady,
)
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import Lease
from rl.types import RunFailure

_LOOK_S = 1.0
Order = Learn | RunDone | StopRun


class Desk(Protocol):
    """What a lease is about, and what becomes of its answer."""

    def job(self, lease: Lease) -> SampleJob | PaintJob: ...

    def set_of(self, version: int) -> int | None:
        """The weights that the scheduler calls by that number."""

    def take_in(self, lease: Lease, answer: Any, pictures: Any) -> None:
        """The answer of a worker, with the weights that were asked for. Raises: RayError if its pictures are gone with
        the machine that they lay on."""

    def failed(self, lease: Lease) -> None:
        """Its call has come to nothing: what was laid down for it is laid down anew for the next one."""

    def drop(self, version: int) -> None:
        """Weights that nobody will name."""


@dataclass(frozen=True)
class _Used:
    """Sets of the language model and the decoder."""

    ar: int | None
    decoder: int | None

    @classmethod
    def by(cls, version: int | None, of: object) -> Self:
        """``of``: a job, or the answer to one; those of samplers know no decoder."""
        return cls(version, getattr(of, "decoder", None))


class Dispatcher:
    """Drives one scheduler. ``orders``: what the trainer is to do, or the end."""

    def __init__(
        self, scheduler: Scheduler, crews: Mapping[str, Crew], desk: Desk, tell: Callable[[str], None]
    ) -> None:
        """``tell``: hears a sentence about each worker that is lost."""
        self.orders: queue.SimpleQueue[Order | Exception] = queue.SimpleQueue()
        self._scheduler, self._crews, self._desk, self._tell = scheduler, crews, desk, tell
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ended, self._known = False, set[str]()
        self._learning: Learn | None = None
        self._thread = threading.Thread(target=self._run, name="cluster dispatcher", daemon=True)

    def start(self) -> None:
        for crew in self._crews.values():
            crew.ready, crew.lost = self._worker_ready, self._worker_lost
            for name in crew.names():
                self._worker_ready(name, crew.role)
        self._post(lambda: self._on(TrainerReady(time.monotonic(), self._scheduler.published)))
        self._thread.start()

    def published(self) -> None:
        """The order that was given last is obeyed, and its weights stand ready."""
        self._post(self._obeyed)

    def next_order(self) -> Order:
        """Waits. Raises: RunFailure if the run can't go on."""
        while True:
            try:
                order = self.orders.get(timeout=_LOOK_S / 2)  # awake: a signal is handled between two waits
            except queue.Empty:
                continue
            if isinstance(order, Exception):
                raise RunFailure(f"what gives the cluster its work broke: {type(order).__name__}: {order}") from order
            if isinstance(order, StopRun):
                raise RunFailure(order.why)
            return order

    def close(self) -> None:
        """Nothing is handed out any more; answers that still come are nobody's."""
        for crew in self._crews.values():
            crew.ready, crew.lost = lambda name, role: None, lambda name, reason: None
        self._post(self._end)
        self._thread.join()

    @property
    def counts(self) -> Mapping[str, int]:
        """Of what has happened: leases, deaths, second leases."""
        return dict(self._scheduler.counts)

    # --- the thread

    def _run(self) -> None:
        try:
            while not self._ended:
                self._turn()
        except Exception as error:  # noqa: BLE001 - told to the main thread, which raises it
            self.orders.put(error)

    def _turn(self) -> None:
        left = self._scheduler.wake_at() - time.monotonic()
        try:
            task = self._inbox.get(timeout=min(max(left, 0.0), _LOOK_S))
        except queue.Empty:
            if left <= _LOOK_S:
                self._on(TimePassed(time.monotonic()))
            return
        task()

    def _post(self, task: Callable[[], None]) -> None:
        self._inbox.put(task)

    def _end(self) -> None:
        self._ended = True

    def _on(self, event: Event) -> None:
        for action in self._scheduler.on(event):
            self._obey(action)

    def _obey(self, action: Action) -> None:
        match action:
            case Assign(lease):
                self._hand(lease)
            case DropWeights(version):
                self._desk.drop(version)
            case KillWorker(worker, why):
                self._tell(f"{why}; it is killed")
                for crew in self._crews.values():
                    crew.dismiss(worker, why)
            case KillTrainer(why):
                self.orders.put(StopRun(why))
            case Learn():
                self._learning = action
                self.orders.put(action)
            case RunDone() | StopRun():
                self.orders.put(action)

    def _hand(self, lease: Lease) -> None:
        crew = self._crews[lease.stage]
        returns = 2 if lease.stage == "paint" else 1
        weights = self._desk.set_of(lease.version)
        try:
            job = self._desk.job(lease)
        except RayError as full:
            reason = f"its pictures can't be laid into Ray's object store ({type(full).__name__})"
            self._post(lambda: self._on(LeaseFailed(time.monotonic(), lease, reason)))
            return
        promised = crew.submit(lease.worker, weights, job, returns=returns)
        if promised is None:
            self._post(lambda: self._on(WorkerDied(time.monotonic(), lease.worker, "it is gone")))
            return
        answer, *pictures = promised
        answer.future().add_done_callback(
            lambda future: self._post(
                partial(self._answered, lease, _Used.by(weights, job), future, pictures[0] if pictures else None)
            )
        )

    def _answered(self, lease: Lease, asked: _Used, future: Future[Any], pictures: Any) -> None:
        crew, now = self._crews[lease.stage], time.monotonic()
        crew.answered(lease.worker)
        if (error := future.exception()) is not None:
            self._desk.failed(lease)
            failed = failure(error)
            if failed.dead:
                crew.dismiss(lease.worker, str(failed))
            else:
                self._on(LeaseFailed(now, lease, str(failed)))
            return
        answer = future.result()
        version = lease.version if _Used.by(answer.version, answer) == asked else -1
        if version == lease.version and lease.step >= self._scheduler.collected:
            try:
                self._desk.take_in(lease, answer, pictures)
            except RayError as lost:
                self._on(LeaseFailed(now, lease, f"its pictures are lost ({failure(lost)})"))
                return
        self._on(Answered(now, lease, version))

    def _obeyed(self) -> None:
        if (order := self._learning) is not None:
            self._learning = None
            self._on(Published(time.monotonic(), order))

    def _worker_ready(self, name: str, role: RoleName) -> None:
        self._post(partial(self._join, name, role))

    def _join(self, name: str, role: RoleName) -> None:
        if name not in self._known:  # it may be told twice when the work begins
            self._known.add(name)
            self._on(WorkerReady(time.monotonic(), name, role))

    def _worker_lost(self, name: str, reason: str) -> None:
        self._post(partial(self._lose, name, reason))

    def _lose(self, name: str, reason: str) -> None:
        self._tell(f"{name} {reason}; another one is started")
        self._on(WorkerDied(time.monotonic(), name, reason))
