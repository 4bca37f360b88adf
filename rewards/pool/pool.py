"""Every reward in its own worker processes, scored concurrently; a worker that hangs or crashes is replaced.

Samples are cut into batches of at most ``batch_size`` (``rewards.needs``) across groups, and any idle worker of the
reward takes the next one. A batch that a worker does not answer in ``timeout_s``, or dies on, is given once more
(``retries``) to another worker; after that its samples are failures with the reason, never zeros. Workers are
replaced between batches after ``recycle_after`` samples or once they have grown by ``recycle_growth_mb``, because
OCR and detection libraries leak. ``submit`` lets scoring overlap with painting; ``score`` is the simple form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Literal, Self

from rewards.base import RewardSpec
from rewards.batches import cut
from rewards.cache import ScoreCache, content_hash
from rewards.needs import Needs, fair_threads, settle_needs
from rewards.pool.contract import Worker
from rewards.pool.gpus import Devices, visible_gpus
from rewards.pool.local_worker import WorkerProcess
from rewards.pool.messages import Start
from rewards.pool.queue import Limits, Line, Seat
from rewards.pool.shared_memory import Shelves
from rewards.pool.submission import Submission, Ticket
from rl.types import Sample, Score, UserError

Backend = Literal["local", "ray"]


class RewardPool:
    """The live rewards of a run. ``with RewardPool({"ocr": RewardSpec("ocr")}) as pool: pool.score(samples)``."""

    def __init__(
        self,
        specs: Mapping[str, RewardSpec],
        *,
        timeout_s: float = 60.0,
        retries: int = 1,
        recycle_after: int = 20_000,
        recycle_growth_mb: float = 2048.0,
        start_timeout_s: float = 300.0,
        backend: Backend = "local",
        cache: str | None = None,
        cache_mb: int = 1024,
        beside: int = 0,
    ) -> None:
        """Start all workers at once and wait until each has loaded its reward.

        ``backend``: processes of this machine, or Ray actors. ``cache``: a folder of scores by content, at most
        ``cache_mb`` MiB (``rewards.cache``). ``beside``: other busy processes that the machine's cores are shared
        with. May be used from several threads.
        Raises ``UserError`` with one sentence per reward that cannot be loaded.
        """
        self._specs = dict(specs)
        self._closed = False
        self._shelves = Shelves()
        self._backend = backend
        limits = Limits(timeout_s, retries, recycle_after, start_timeout_s)
        gpus = visible_gpus() if backend == "local" else []
        devices = Devices(gpus)
        count = len(gpus) if backend == "local" else _connect_ray()
        settled = {name: settle_needs(name, spec, count) for name, spec in specs.items()}
        self._needs = {name: needs for name, (needs, _) in settled.items()}
        workers = sum(needs.workers for needs in self._needs.values())
        threads = fair_threads(workers + beside) if backend == "local" else None  # Ray's nodes are others
        self._lines = {}
        for name, spec in specs.items():
            start = Start(name, spec.use, dict(spec.options), *settled[name], spec.probe, threads, recycle_growth_mb)
            starters = [self._starter(start, devices) for _ in range(start.needs.workers)]
            self._lines[name] = Line(name, spec.use, starters, limits)
        self._cache = ScoreCache(cache, cache_mb) if cache is not None else None
        self._open()

    def _starter(self, start: Start, devices: Devices) -> Callable[[], Worker]:
        if self._backend == "ray":
            from rewards.pool.ray_worker import RayWorker

            return partial(RayWorker, start)
        return partial(WorkerProcess, start, devices.assign(start.name, start.needs.gpus))

    def _open(self) -> None:
        try:
            for seat in self._seats():
                seat.open()
            problems = [seat.wait_open() for seat in self._seats()]
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
        return self.submit(samples).result()

    def submit(self, samples: Sequence[Sample]) -> Submission:
        """Start scoring and return at once, so that the caller paints the next pictures meanwhile.

        A reward that needs whole groups gets them as far as they are in one submission.
        """
        if self._closed:
            raise RuntimeError("the reward pool is closed")
        submission = Submission(samples, self._lines, self._shelves, self._cancel)
        try:
            contents = [content_hash(sample) for sample in samples] if self._cache is not None else []
            tickets = [ticket for name in self._lines for ticket in self._tickets(name, submission, contents)]
            self._hand_out(submission, tickets)
        except BaseException:
            submission.cancel()
            raise
        return submission

    def _tickets(self, name: str, submission: Submission, contents: Sequence[str | None]) -> list[Ticket]:
        needs, version, spec = self._needs[name], self._lines[name].version, self._specs[name]
        indices = [index for index, sample in enumerate(submission.samples) if spec.applies(sample.prompt)]
        others = sorted(set(range(len(submission.samples))) - set(indices))
        submission.fill(name, others, [Score(None)] * len(others))
        if self._cache is None or version is None or needs.whole_groups:
            return [Ticket(submission, name, run) for run in _runs(submission.samples, indices, needs)]
        keys = self._cache.keys(spec, version, contents)
        known = {index: score for index in indices if (score := self._cache.get(keys[index])) is not None}
        submission.fill(name, list(known), list(known.values()))
        indices = [index for index in indices if index not in known]
        return [
            Ticket(submission, name, run, store=partial(self._cache.put, [keys[index] for index in run], version))
            for run in _runs(submission.samples, indices, needs)
        ]

    def _hand_out(self, submission: Submission, tickets: Sequence[Ticket]) -> None:
        """Each picture is copied to shared memory once for all rewards; a worker starts when its batch is there."""
        waiting = sorted(tickets, key=lambda ticket: ticket.indices[-1])
        for ticket in waiting:
            if self._backend == "local":
                for index in ticket.indices:
                    submission.shelve(index)
            self._lines[ticket.reward].put(ticket)

    def _cancel(self, submission: Submission) -> None:
        for line in self._lines.values():
            line.cancel(submission)

    @property
    def restarts(self) -> dict[str, int]:
        """How many workers were replaced so far after a time-out or a crash, per reward."""
        return {name: sum(seat.restarts for seat in line.seats) for name, line in self._lines.items()}

    @property
    def recycled(self) -> dict[str, int]:
        """How many workers were replaced so far because of their age or growth, per reward."""
        return {name: sum(seat.recycled for seat in line.seats) for name, line in self._lines.items()}

    @property
    def versions(self) -> dict[str, str | None]:
        """Of the code of each reward (``rewards.pool.version``); ``None`` while its workers differ or none is ready."""
        return {name: line.version for name, line in self._lines.items()}

    @property
    def unproven(self) -> set[str]:
        """The rewards that should be probed and have no reference pictures of their own."""
        return {
            name
            for name, line in self._lines.items()
            if self._specs[name].probe and not all(seat.probed for seat in line.seats)
        }

    @property
    def pids(self) -> dict[str, list[int]]:
        """The process ids of the live workers, per reward."""
        return {
            name: [worker.pid for seat in line.seats if (worker := seat.worker) is not None]
            for name, line in self._lines.items()
        }

    @property
    def needs(self) -> dict[str, Needs]:
        """What each reward was given."""
        return dict(self._needs)

    def close(self) -> None:
        """Stop and reap every worker; calls in progress become failures. Can be called twice."""
        self._closed = True
        for line in self._lines.values():
            line.close()
        for seat in self._seats():
            seat.join()
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _seats(self) -> list[Seat]:
        return [seat for line in self._lines.values() for seat in line.seats]


def _connect_ray() -> int:
    from rewards.pool.ray_worker import connect

    return connect()


def _runs(samples: Sequence[Sample], indices: Sequence[int], needs: Needs) -> list[list[int]]:
    """``indices`` in calls of at most the reward's batch size, and small enough that every worker gets something."""
    most = max(1, min(needs.batch_size, -(-len(indices) // needs.workers)))
    runs = cut([samples[index] for index in indices], most, whole_groups=needs.whole_groups)
    return [[indices[place] for place in run] for run in runs]
