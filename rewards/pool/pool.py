"""Every reward in its own worker processes, scored concurrently; a worker that hangs or crashes is replaced.

Samples go into batches of at most ``batch_size`` (``rewards.needs``) across groups, and any idle worker of the
reward takes the next one. A batch that a worker does not answer in ``timeout_s``, or dies on, is given once more
(``retries``) to another worker; after that its samples are failures with the reason, never zeros. Workers are
replaced between batches after ``recycle_after`` samples or once they have grown by ``recycle_growth_mb``, because
OCR and detection libraries leak. ``submit`` lets scoring overlap with painting; ``score`` is the simple form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self

from rewards.batches import batches_by_group
from rewards.cache import ScoreCache, content_hash
from rewards.needs import Needs, fair_threads, settle_needs
from rewards.pool.gpus import Devices, visible_gpus
from rewards.pool.messages import Start
from rewards.pool.queue import RewardQueue, WorkerSlot
from rewards.pool.shared_memory import FreeList
from rewards.pool.submission import Call, Submission
from rewards.pool.worker_handle import Worker, WorkerProcess
from rl.config.declared import declarations
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.types import Sample, Score, UserError


class RewardPool:
    """The live rewards of a run. ``with RewardPool({"ocr": RewardComponent(use="ocr")}) as pool: pool.score(samples)``.

    May be used from several threads.
    """

    def __init__(
        self,
        rewards: Mapping[str, RewardComponent],
        options: RewardPoolConfig = RewardPoolConfig(),  # noqa: B008 - frozen
        *,
        other_processes: int = 0,
    ) -> None:
        """Start all workers at once and wait until each has loaded its reward.

        ``other_processes``: those that are busy at the same time and share the machine's cores with the workers.
        Raises ``UserError`` with one sentence per reward that cannot be loaded.
        """
        self._rewards, self._options = dict(rewards), options
        self._of_answers = {name for name, one in rewards.items() if declarations("rewards", one.use).answers}
        self._closed = False
        self._free_memory = FreeList()
        gpus = visible_gpus() if options.backend == "local" else []
        count = len(gpus)
        if options.backend == "ray":
            from rewards.pool.ray_worker import connect

            count = connect()
        settled = {name: settle_needs(name, reward, count) for name, reward in rewards.items()}
        self.needs: Mapping[str, Needs] = {name: needs for name, (needs, _) in settled.items()}
        """What each reward was given."""
        busy = sum(needs.workers for needs in self.needs.values()) + other_processes
        threads = fair_threads(busy) if options.backend == "local" else None  # Ray's nodes are others
        devices = Devices(gpus)
        self._queues = {}
        for name, reward in rewards.items():
            growth_mb = options.recycle_growth_mb
            start = Start(name, reward.use, reward.options, *settled[name], reward.probe, threads, growth_mb)
            start_worker = [self._worker_starter(start, devices) for _ in range(start.needs.workers)]
            self._queues[name] = RewardQueue(name, reward.use, start_worker, options)
        self._cache = ScoreCache(options.cache, options.cache_mb) if options.cache is not None else None
        self._start_workers()

    def _worker_starter(self, start: Start, devices: Devices) -> Callable[[], Worker]:
        if self._options.backend == "ray":
            from rewards.pool.ray_worker import RayWorker

            return partial(RayWorker, start)
        return partial(WorkerProcess, start, devices.assign(start.name, start.needs.gpus))

    def _start_workers(self) -> None:
        try:
            for slot in self._slots():
                slot.start()
            problems = [slot.wait_started() for slot in self._slots()]
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
        submission = Submission(samples, self._queues, self._free_memory, self._cancel)
        try:
            contents = self._contents(submission)
            calls = [call for name in self._queues for call in self._calls(name, submission, contents)]
            self._put(submission, calls)
        except BaseException:
            submission.cancel()
            raise
        return submission

    def _contents(self, submission: Submission) -> list[str | None]:
        if self._cache is None:
            return []
        return [None if i in submission.unreadable else content_hash(one) for i, one in enumerate(submission.samples)]

    def _calls(self, name: str, submission: Submission, contents: Sequence[str | None]) -> list[Call]:
        """What is left to ask: what does not apply, can't be read or is known already is filled in."""
        needs, version, reward = self.needs[name], self._queues[name].version, self._rewards[name]
        judged = [sample.answer is None or name in self._of_answers for sample in submission.samples]
        indices = [
            index for index, one in enumerate(submission.samples) if judged[index] and reward.applies(one.prompt)
        ]
        others = sorted(set(range(len(submission.samples))) - set(indices))
        submission.fill(name, others, [Score(None)] * len(others))
        lost = [index for index in indices if index in submission.unreadable]
        submission.fill(name, lost, [Score(None, failure=submission.unreadable[index]) for index in lost])
        indices = [index for index in indices if index not in submission.unreadable]
        if self._cache is None or version is None or needs.whole_groups:
            return [Call(submission, name, batch) for batch in _batches(submission.samples, indices, needs)]
        keys = self._cache.keys(reward, version, contents)
        known = {index: score for index in indices if (score := self._cache.get(keys[index])) is not None}
        submission.fill(name, list(known), list(known.values()))
        indices = [index for index in indices if index not in known]
        return [
            Call(submission, name, batch, store=partial(self._cache.put, [keys[index] for index in batch], version))
            for batch in _batches(submission.samples, indices, needs)
        ]

    def _put(self, submission: Submission, calls: Sequence[Call]) -> None:
        """Each picture is copied to shared memory once for all rewards; a worker starts when its batch is there."""
        for call in sorted(calls, key=lambda call: call.indices[-1]):
            if self._options.backend == "local":
                for index in call.indices:
                    submission.share(index)
            self._queues[call.reward].put(call)

    def _cancel(self, submission: Submission) -> None:
        for queue in self._queues.values():
            queue.cancel(submission)

    @property
    def restarts(self) -> dict[str, int]:
        """How many workers were replaced so far after a time-out or a crash, per reward."""
        return {name: sum(slot.restarts for slot in queue.slots) for name, queue in self._queues.items()}

    @property
    def recycled(self) -> dict[str, int]:
        """How many workers were replaced so far because of their age or growth, per reward."""
        return {name: sum(slot.recycled for slot in queue.slots) for name, queue in self._queues.items()}

    @property
    def versions(self) -> dict[str, str | None]:
        """Of the code of each reward (``rewards.pool.version``); ``None`` while its workers differ or none is ready."""
        return {name: queue.version for name, queue in self._queues.items()}

    @property
    def unprobed(self) -> set[str]:
        """The rewards that should be probed and have no reference pictures of their own."""
        return {
            name
            for name, queue in self._queues.items()
            if self._rewards[name].probe and not all(slot.probed for slot in queue.slots)
        }

    @property
    def pids(self) -> dict[str, list[int]]:
        """The process ids of the live workers, per reward."""
        return {
            name: [worker.pid for slot in queue.slots if (worker := slot.worker) is not None]
            for name, queue in self._queues.items()
        }

    def close(self) -> None:
        """Stop and reap every worker; calls in progress become failures. Can be called twice."""
        self._closed = True
        for queue in self._queues.values():
            queue.close()
        for slot in self._slots():
            slot.join()
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _slots(self) -> list[WorkerSlot]:
        return [slot for queue in self._queues.values() for slot in queue.slots]


def _batches(samples: Sequence[Sample], indices: Sequence[int], needs: Needs) -> list[list[int]]:
    """``indices`` in batches of at most the reward's size, and small enough that every worker gets something."""
    size = max(1, min(needs.batch_size, -(-len(indices) // needs.workers)))
    batches = batches_by_group([samples[index] for index in indices], size, whole_groups=needs.whole_groups)
    return [[indices[place] for place in batch] for batch in batches]
