"""The calls that wait for a reward, and its worker slots: each always has a worker, whatever happens to one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from rewards.pool.submission import Call, Submission
from rewards.pool.worker_handle import Worker, WorkerLost
from rl.config.schema import RewardPoolConfig
from rl.types import Score, UserError

INTERRUPTED = "interrupted"
_WAKE_S = 0.5


class RewardQueue:
    """The calls that wait for one reward. Any idle slot takes the next one, so no worker waits for a slower one."""

    def __init__(
        self, name: str, use: str, start_worker: Sequence[Callable[[], Worker]], options: RewardPoolConfig
    ) -> None:
        """``start_worker`` has one entry per slot."""
        self.name, self.use, self.options = name, use, options
        self.closed = False
        self._error: BaseException | None = None
        self._waiting: deque[Call] = deque()
        self._changed = threading.Condition()
        self.slots = [WorkerSlot(self, start) for start in start_worker]

    @property
    def version(self) -> str | None:
        """Of the code that the live workers run; ``None`` while they differ or none is ready."""
        found = {worker.version for slot in self.slots if (worker := slot.worker) is not None}
        return found.pop() or None if len(found) == 1 else None

    def put(self, call: Call, *, first: bool = False) -> None:
        with self._changed:
            if self._error is not None:
                call.submission.set_exception(self._error)
                return
            if not self.closed and not call.submission.cancelled:
                (self._waiting.appendleft if first else self._waiting.append)(call)
                self._changed.notify()
                return
        call.fail(INTERRUPTED)

    def take(self) -> Call | None:
        """Waits for the next call; ``None`` when the queue is closed or broken."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closed or self._error)
            return self._waiting.popleft() if not (self.closed or self._error) else None

    def set_exception(self, error: BaseException) -> None:
        """A fault of ours, not of the reward: whoever waits, or comes later, hears of it and nobody waits for ever."""
        with self._changed:
            self._error = error
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for call in waiting:
            call.submission.set_exception(error)

    def cancel(self, submission: Submission | None) -> None:
        """Drop the waiting calls of a submission (``None``: all) and end those in progress."""
        with self._changed:
            dropped = [call for call in self._waiting if submission in (None, call.submission)]
            self._waiting = deque(call for call in self._waiting if call not in dropped)
        for call in dropped:
            call.fail(INTERRUPTED)
        for slot in self.slots:
            slot.abort(submission)

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self.cancel(None)


class WorkerSlot:
    """One worker at a time, served by one thread."""

    def __init__(self, queue: RewardQueue, start_worker: Callable[[], Worker]) -> None:
        self._queue, self._start_worker = queue, start_worker
        self._lock = threading.Lock()  # between putting in a worker and aborting it
        self._call: Call | None = None  # in progress
        self._not_replaced: str | None = None  # why the last worker has no successor
        self._started: Future[str | None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"reward {queue.name}", daemon=True)
        self.worker: Worker | None = None
        self.restarts = 0
        self.recycled = 0
        self.probed = False

    def start(self) -> None:
        """Start the worker; ``wait_started`` awaits it."""
        self._thread.start()

    def wait_started(self) -> str | None:
        """The sentence for the user if the reward could not be loaded."""
        while not wait([self._started], _WAKE_S).done:
            pass  # awake now and then: a signal that the system gave to another thread is handled by this one
        return self._started.result()

    def abort(self, submission: Submission | None) -> None:
        """Kill the worker if it is busy with this submission, or in any case for ``None``."""
        with self._lock:
            busy_with = self._call.submission if self._call is not None else None
            if self.worker is not None and submission in (None, busy_with):
                self.worker.kill()

    def join(self) -> None:
        """After the queue was closed: wait for the thread, then let go of the worker."""
        if self._thread.ident is not None:
            self._thread.join()
        self._stop_worker()

    def _run(self) -> None:
        try:
            problem = self._first_start()
        except BaseException as error:
            self._started.set_exception(error)
            raise
        self._started.set_result(problem)
        while problem is None and (call := self._queue.take()) is not None:
            try:
                self._serve(call)
            except BaseException as error:
                call.submission.set_exception(error)
                self._queue.set_exception(error)
                raise

    def _first_start(self) -> str | None:
        try:
            self._ready_worker()
        except UserError as error:
            return str(error)
        except WorkerLost as error:
            return (
                f"rewards.{self._queue.name}: the worker process of {self._queue.use!r} {error}; "
                f"try it alone in a Python shell, or raise reward_pool.start_timeout_s"
            )
        return None

    def _serve(self, call: Call) -> None:
        self._set_call(call)
        try:
            worker, scores = self._attempt(call)
        except WorkerLost as error:
            self._set_call(None)
            self._after_loss(call, str(error))
        else:
            self._set_call(None)
            call.succeed(scores, worker.version)
            self._recycle_if_due(worker)

    def _set_call(self, call: Call | None) -> None:
        with self._lock:
            self._call = call

    def _attempt(self, call: Call) -> tuple[Worker, list[Score]]:
        if self._not_replaced is not None:
            reason, self._not_replaced = self._not_replaced, None
            raise WorkerLost(reason)
        try:
            worker = self._ready_worker()
        except UserError as error:  # it could be loaded at the start of the run and now it cannot
            raise WorkerLost(f"could not be restarted: {error}") from error
        return worker, worker.score(call, self._queue.options.timeout_s)

    def _after_loss(self, call: Call, reason: str) -> None:
        call.attempts += 1
        allowed = 1 + self._queue.options.retries
        if self._queue.closed or call.submission.cancelled:  # the next call starts a new worker
            call.fail(INTERRUPTED)
            return
        self.restarts += 1
        if call.attempts < allowed:
            self._queue.put(call, first=True)  # whichever slot is ready first
        else:
            call.fail(reason + (f" ({allowed} attempts)" if allowed > 1 else ""))
        self._replace_worker()

    def _recycle_if_due(self, worker: Worker) -> None:
        if worker.scored >= self._queue.options.recycle_after or worker.grown:
            self.recycled += 1
            self._replace_worker()

    def _replace_worker(self) -> None:
        """A new worker, loaded before this slot takes another call, which fails if there is none."""
        with self._lock:
            self._stop_worker()
        try:
            self._ready_worker()
        except UserError as error:
            self._not_replaced = f"could not be restarted: {error}"
        except WorkerLost as error:
            self._not_replaced = str(error)

    def _ready_worker(self) -> Worker:
        worker = self._live_worker()
        worker.wait_ready(self._queue.options.start_timeout_s)
        self.probed = worker.probed
        return worker

    def _live_worker(self) -> Worker:
        with self._lock:
            if self._queue.closed or (self._call is not None and self._call.submission.cancelled):
                raise WorkerLost(INTERRUPTED)
            if self.worker is None or not self.worker.alive:
                self._stop_worker()
                self.worker = self._start_worker()
            return self.worker

    def _stop_worker(self) -> None:
        """Nobody else may put in a worker meanwhile."""
        if self.worker is not None:
            self.worker.stop()
            self.worker = None
