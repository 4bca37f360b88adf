"""A reward's line of waiting calls and its seats: places that always have a worker, whatever happens to one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

from rewards.pool.contract import Worker, WorkerLost
from rewards.pool.submission import Submission, Ticket
from rl.types import Score, UserError

INTERRUPTED = "interrupted"
_WAKE_S = 0.5


@dataclass(frozen=True)
class Limits:
    timeout_s: float
    retries: int
    recycle_after: int
    start_timeout_s: float


class Line:
    """The calls that wait for one reward. Any idle seat takes the next one, so no worker waits for a slower one."""

    def __init__(self, name: str, use: str, start_worker: Sequence[Callable[[], Worker]], limits: Limits) -> None:
        """``start_worker`` has one entry per seat."""
        self.name, self.use, self.limits = name, use, limits
        self.closed = False
        self._broken: BaseException | None = None
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self.seats = [Seat(self, start) for start in start_worker]

    @property
    def version(self) -> str | None:
        """Of the code that the live workers run; ``None`` while they differ or none is ready."""
        found = {worker.version for seat in self.seats if (worker := seat.worker) is not None}
        return found.pop() or None if len(found) == 1 else None

    def put(self, ticket: Ticket, *, first: bool = False) -> None:
        with self._changed:
            if self._broken is not None:
                ticket.submission.break_off(self._broken)
                return
            if not self.closed and not ticket.submission.cancelled:
                (self._waiting.appendleft if first else self._waiting.append)(ticket)
                self._changed.notify()
                return
        ticket.fail(INTERRUPTED)

    def take(self) -> Ticket | None:
        """Waits for the next call; ``None`` when the line is closed or broken."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closed or self._broken)
            return self._waiting.popleft() if not (self.closed or self._broken) else None

    def break_off(self, error: BaseException) -> None:
        """A fault of ours, not of the reward: whoever waits, or comes later, hears of it and nobody waits for ever."""
        with self._changed:
            self._broken = error
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for ticket in waiting:
            ticket.submission.break_off(error)

    def cancel(self, submission: Submission | None) -> None:
        """Drop the waiting calls of a submission (``None``: all) and end those in progress."""
        with self._changed:
            dropped = [ticket for ticket in self._waiting if submission in (None, ticket.submission)]
            self._waiting = deque(ticket for ticket in self._waiting if ticket not in dropped)
        for ticket in dropped:
            ticket.fail(INTERRUPTED)
        for seat in self.seats:
            seat.abort(submission)

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self.cancel(None)


class Seat:
    """One worker at a time, served by one thread."""

    def __init__(self, line: Line, start_worker: Callable[[], Worker]) -> None:
        self._line, self._start_worker = line, start_worker
        self._swap = threading.Lock()  # between putting in a worker and aborting it
        self._ticket: Ticket | None = None
        self._trouble: str | None = None
        self._opened: Future[str | None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"reward {line.name}", daemon=True)
        self.worker: Worker | None = None
        self.restarts = 0
        self.recycled = 0
        self.probed = False

    def open(self) -> None:
        """Start the worker; ``wait_open`` awaits it."""
        self._thread.start()

    def wait_open(self) -> str | None:
        """The sentence for the user if the reward could not be loaded."""
        while not wait([self._opened], _WAKE_S).done:
            pass  # awake now and then: a signal that the system gave to another thread is handled by this one
        return self._opened.result()

    def abort(self, submission: Submission | None) -> None:
        """Kill the worker if it is busy with this submission, or in any case for ``None``."""
        with self._swap:
            busy_with = self._ticket.submission if self._ticket is not None else None
            if self.worker is not None and submission in (None, busy_with):
                self.worker.kill()

    def join(self) -> None:
        """After the line was closed: wait for the thread, then let go of the worker."""
        if self._thread.ident is not None:
            self._thread.join()
        self._dismiss()

    def _run(self) -> None:
        try:
            problem = self._first_start()
        except BaseException as error:
            self._opened.set_exception(error)
            raise
        self._opened.set_result(problem)
        while problem is None and (ticket := self._line.take()) is not None:
            try:
                self._serve(ticket)
            except BaseException as error:
                ticket.submission.break_off(error)
                self._line.break_off(error)
                raise

    def _first_start(self) -> str | None:
        try:
            self._ready_worker()
        except UserError as error:
            return str(error)
        except WorkerLost as error:
            return (
                f"rewards.{self._line.name}: the worker process of {self._line.use!r} {error}; "
                f"try it alone in a Python shell, or raise reward_pool.start_timeout_s"
            )
        return None

    def _serve(self, ticket: Ticket) -> None:
        with self._swap:
            self._ticket = ticket
        try:
            worker, scores = self._attempt(ticket)
        except WorkerLost as error:
            self._after_loss(ticket, str(error))
        else:
            with self._swap:
                self._ticket = None
            ticket.succeed(scores, worker.version)
            self._recycle_if_due(worker)

    def _attempt(self, ticket: Ticket) -> tuple[Worker, list[Score]]:
        if self._trouble is not None:  # the last worker could not be replaced
            reason, self._trouble = self._trouble, None
            raise WorkerLost(reason)
        try:
            worker = self._ready_worker()
        except UserError as error:  # it could be loaded at the start of the run and now it cannot
            raise WorkerLost(f"could not be restarted: {error}") from error
        return worker, worker.score(ticket, self._line.limits.timeout_s)

    def _after_loss(self, ticket: Ticket, reason: str) -> None:
        with self._swap:
            self._ticket = None
        ticket.attempts += 1
        allowed = 1 + self._line.limits.retries
        if self._line.closed or ticket.submission.cancelled:  # the next call starts a new worker
            ticket.fail(INTERRUPTED)
            return
        self.restarts += 1
        if ticket.attempts < allowed:
            self._line.put(ticket, first=True)  # whichever seat is ready first
        else:
            ticket.fail(reason + (f" ({allowed} attempts)" if allowed > 1 else ""))
        self._renew()

    def _recycle_if_due(self, worker: Worker) -> None:
        if worker.scored >= self._line.limits.recycle_after or worker.grown:
            self.recycled += 1
            self._renew()

    def _renew(self) -> None:
        """A new worker, loaded before this seat takes another call; trouble is charged to that call."""
        with self._swap:
            self._dismiss()
        try:
            self._ready_worker()
        except UserError as error:
            self._trouble = f"could not be restarted: {error}"
        except WorkerLost as error:
            self._trouble = str(error)

    def _ready_worker(self) -> Worker:
        worker = self._seated()
        worker.wait_ready(self._line.limits.start_timeout_s)
        self.probed = worker.probed
        return worker

    def _seated(self) -> Worker:
        with self._swap:
            if self._line.closed or (self._ticket is not None and self._ticket.submission.cancelled):
                raise WorkerLost(INTERRUPTED)
            if self.worker is None or not self.worker.alive:
                self._dismiss()
                self.worker = self._start_worker()
            return self.worker

    def _dismiss(self) -> None:
        """Nobody else may swap the worker meanwhile."""
        if self.worker is not None:
            self.worker.stop()
            self.worker = None
