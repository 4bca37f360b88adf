"""Every reward in its own worker process, scored concurrently; a worker that hangs or crashes is replaced.

A batch that a worker does not answer in ``timeout_s``, or dies on, is given once more (``retries``) to a fresh
worker; after that its samples are failures with the reason, never zeros. Workers are replaced between batches
after ``recycle_after`` samples or above ``recycle_rss_mb``, because OCR and detection libraries leak.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Self

from rewards.base import RewardSpec, failures
from rewards.process import WorkerLost, WorkerProcess
from rl.types import Sample, Score, UserError


class RewardPool:
    """The live rewards of a run. ``with RewardPool({"ocr": RewardSpec("ocr")}) as pool: pool.score(samples)``."""

    def __init__(
        self,
        specs: Mapping[str, RewardSpec],
        *,
        timeout_s: float = 60.0,
        retries: int = 1,
        recycle_after: int = 20_000,
        recycle_rss_mb: float = 4096.0,
        start_timeout_s: float = 300.0,
    ) -> None:
        """Start all workers at once and wait until each has loaded its reward.

        Raises ``UserError`` with one sentence per reward that cannot be loaded.
        """
        self._lock = threading.Lock()
        limits = _Limits(timeout_s, retries, recycle_after, recycle_rss_mb, start_timeout_s)
        self._seats = {
            name: [_Seat(name, spec, limits) for _ in range(max(1, spec.workers))] for name, spec in specs.items()
        }
        self._threads = ThreadPoolExecutor(max(1, len(self._all())), thread_name_prefix="reward")
        try:
            problems = [future.result() for future in [self._threads.submit(seat.open) for seat in self._all()]]
        except BaseException:
            self.close()
            raise
        if any(problems):
            self.close()
            raise UserError("\n".join(dict.fromkeys(problem for problem in problems if problem)))

    def score(self, samples: Sequence[Sample]) -> dict[str, list[Score]]:
        """B scores per reward, in the order of ``samples``; the rewards work at the same time.

        Interrupted (Ctrl-C), it kills the workers that are busy; the next call starts fresh ones.
        """
        with self._lock:
            if not samples:
                return {name: [] for name in self._seats}
            futures = {name: self._submit(seats, samples) for name, seats in self._seats.items()}
            try:
                return {name: [s for part in parts for s in part.result()] for name, parts in futures.items()}
            except BaseException:
                for seat in self._all():
                    seat.abort()
                wait([future for parts in futures.values() for future in parts])
                raise

    def _submit(self, seats: Sequence[_Seat], samples: Sequence[Sample]) -> list[Future[list[Score]]]:
        for seat in seats:
            seat.reopen()
        shares = split_by_group(samples, len(seats))
        return [self._threads.submit(seat.score, share) for seat, share in zip(seats, shares, strict=False)]

    @property
    def restarts(self) -> dict[str, int]:
        """How many workers were replaced so far after a time-out or a crash, per reward."""
        return {name: sum(seat.restarts for seat in seats) for name, seats in self._seats.items()}

    @property
    def pids(self) -> dict[str, list[int]]:
        """The process ids of the live workers, per reward."""
        return {
            name: [seat.worker.pid for seat in seats if seat.worker is not None] for name, seats in self._seats.items()
        }

    def close(self) -> None:
        """Stop and reap every worker; can be called twice."""
        for seat in self._all():
            seat.abort()  # ends calls in progress, so that no thread waits for a hung plug-in
        self._threads.shutdown()
        for seat in self._all():
            seat.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all(self) -> list[_Seat]:
        return [seat for seats in self._seats.values() for seat in seats]


def split_by_group(samples: Sequence[Sample], parts: int) -> list[list[Sample]]:
    """``samples`` in at most ``parts`` runs of about equal length, in order, never dividing a group."""
    groups = [list(members) for _, members in groupby(samples, key=lambda sample: sample.group)]
    parts = min(parts, len(groups))
    shares: list[list[Sample]] = [[] for _ in range(parts)]
    for index, group in enumerate(groups):
        shares[index * parts // len(groups)].extend(group)
    return shares


@dataclass(frozen=True)
class _Limits:
    timeout_s: float
    retries: int
    recycle_after: int
    recycle_rss_mb: float
    start_timeout_s: float


class _Seat:
    """A place that always has a worker: whatever happens to one, the next is already starting."""

    def __init__(self, name: str, spec: RewardSpec, limits: _Limits) -> None:
        self._name, self._spec, self._limits = name, spec, limits
        self._swap = threading.Lock()  # between putting in a worker and aborting it
        self._aborted = False
        self.worker: WorkerProcess | None = None
        self.restarts = 0

    def open(self) -> str | None:
        """Start the worker and wait for its handshake; the sentence for the user if that fails."""
        try:
            self._seated().wait_ready(self._limits.start_timeout_s)
        except UserError as error:
            return str(error)
        except WorkerLost as error:
            return (
                f"rewards.{self._name}: the worker process of {self._spec.use!r} {error}; "
                f"try it alone in a Python shell, or raise reward_pool.start_timeout_s"
            )
        return None

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """The worker's scores; failures with the last reason if every attempt lost its worker."""
        attempts = 1 + self._limits.retries
        reason = ""
        for _ in range(attempts):
            try:
                worker = self._seated()
                worker.wait_ready(self._limits.start_timeout_s)
                scores = worker.score(samples, self._limits.timeout_s)
            except WorkerLost as error:
                reason = str(error)
            except UserError as error:  # it could be loaded at the start of the run and now it cannot
                reason = f"could not be restarted: {error}"
            else:
                self._recycle_if_due(worker)
                return scores
            if self._aborted:
                return failures(len(samples), "interrupted")
            self._replace()
        return failures(len(samples), reason + (f" ({attempts} attempts)" if attempts > 1 else ""))

    def abort(self) -> None:
        """Kill the worker; a call in progress ends at once, and ``reopen`` must come before the next."""
        with self._swap:
            self._aborted = True
            if self.worker is not None:
                self.worker.kill()

    def reopen(self) -> None:
        self._aborted = False

    def close(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def _seated(self) -> WorkerProcess:
        with self._swap:
            if self._aborted:
                raise WorkerLost("interrupted")
            if self.worker is None or not self.worker.alive:
                self.close()
                self.worker = WorkerProcess(self._name, self._spec.use, self._spec.options)
            return self.worker

    def _replace(self) -> None:
        self.restarts += 1
        self._renew()

    def _renew(self) -> None:
        # The new worker loads while the run does something else; its handshake is awaited by the next batch.
        self.close()
        with suppress(WorkerLost):  # aborted meanwhile: no new worker is wanted
            self._seated()

    def _recycle_if_due(self, worker: WorkerProcess) -> None:
        if worker.scored >= self._limits.recycle_after or worker.rss_mb() > self._limits.recycle_rss_mb:
            self._renew()
