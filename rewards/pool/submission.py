"""Scores on their way: what ``RewardPool.submit`` returns, and the calls of rewards that it is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from rewards.base import failures
from rewards.pool.prompt_pictures import in_memory
from rewards.pool.shared_memory import FreeList, SharedArray, SharedSample, to_shared
from rl.process.progress import Progress, untold
from rl.types import Sample, Score

_WAKE_S = 0.5


class Submission:
    """B samples and, per reward, room for B scores, each filled in exactly once."""

    def __init__(
        self,
        samples: Sequence[Sample],
        rewards: Collection[str],
        free: FreeList,
        abandon: Callable[[Submission], None],
    ) -> None:
        """``abandon``: ends the calls of this submission that wait or are in progress, see ``cancel``."""
        self.samples, self.unreadable = in_memory(samples)
        """``unreadable``: sample -> why a picture of its prompt can't be read; no worker gets these."""
        self.memory = free.take()
        self.kept = False
        """A reward holds on to an array: the memory must not be written to again."""
        self.cancelled = False
        self._shared: dict[int, SharedSample] = {}
        self._arrays: dict[int, SharedArray] = {}
        self._scores: dict[str, list[Score | None]] = {name: [None] * len(self.samples) for name in rewards}
        self.wanted = self._missing = len(self.samples) * len(self._scores)
        self._changed = threading.Condition()
        self._free = free
        self._abandon = abandon
        self._error: BaseException | None = None
        if self.done:
            self._release()

    @property
    def done(self) -> bool:
        """Whether every score is there."""
        return self._missing == 0

    @property
    def missing(self) -> int:
        """Of the B scores of each reward, how many are not there yet."""
        return self._missing

    def share(self, index: int) -> None:
        """Copy a sample's picture and arrays to shared memory, once for all rewards."""
        if index not in self._shared:
            self._shared[index] = to_shared(self.samples[index], self.memory, self._arrays)

    def shared(self, index: int) -> SharedSample:
        """The sample as its workers get it, after ``share``."""
        return self._shared[index]

    def fill(self, reward: str, indices: Sequence[int], scores: Sequence[Score]) -> None:
        """Raises ``RuntimeError`` for a score that is there already: no sample is ever scored twice."""
        with self._changed:
            found = self._scores[reward]
            for index, score in zip(indices, scores, strict=True):
                if found[index] is not None:
                    raise RuntimeError(f"reward {reward!r} scored sample {self.samples[index].id!r} twice")
                found[index] = score
            self._missing -= len(indices)
            if self.done and indices:
                self._release()
                self._changed.notify_all()

    def _release(self) -> None:
        if self.kept:
            self.memory.close()
        else:
            self._free.give_back(self.memory)

    def cancel(self) -> None:
        """Kill the workers that are busy with these samples; what is missing becomes failures (``interrupted``)."""
        self.cancelled = True
        self._abandon(self)

    def set_exception(self, error: BaseException) -> None:
        """``result`` raises this: a fault of the pool itself, not of a reward."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def result(self, waiting: Callable[[], None] = lambda: None) -> dict[str, list[Score]]:
        """Waits; B scores per reward, in the order of the samples. Interrupted (Ctrl-C), it cancels.

        ``waiting`` is called twice a second meanwhile.
        """
        try:
            with self._changed:
                while not self._changed.wait_for(lambda: self.done or self._error is not None, timeout=_WAKE_S):
                    waiting()  # awake: a signal that the system gave to another thread is handled by this one, too
                if self._error is not None:
                    raise RuntimeError(f"the reward pool broke: {self._error}") from self._error
        except BaseException:
            self.cancel()
            raise
        return {name: [score for score in found if score is not None] for name, found in self._scores.items()}


def gather(submissions: Iterable[Submission], progress: Progress = untold) -> dict[str, list[Score]]:
    """The scores of several submissions as if they had been one; interrupted, it cancels them all."""
    waiting = list(submissions)
    wanted = sum(submission.wanted for submission in waiting)

    def tell() -> None:
        progress(wanted - sum(submission.missing for submission in waiting), wanted, "scores")

    merged: dict[str, list[Score]] = {}
    try:
        for submission in waiting:
            for name, scores in submission.result(tell).items():
                merged.setdefault(name, []).extend(scores)
    except BaseException:
        for submission in waiting:
            submission.cancel()
        raise
    return merged


@dataclass
class Call:
    """One call of one reward: which samples of a submission, and how often it was tried.

    ``store``: gets the scores and the version of the reward's code that gave them.
    """

    submission: Submission
    reward: str
    indices: Sequence[int]
    store: Callable[[Sequence[Score], str], None] | None = field(default=None, repr=False)
    attempts: int = 0

    @property
    def samples(self) -> list[Sample]:
        return [self.submission.samples[index] for index in self.indices]

    @property
    def shared_samples(self) -> list[SharedSample]:
        return [self.submission.shared(index) for index in self.indices]

    def succeed(self, scores: Sequence[Score], version: str) -> None:
        if self.store is not None:
            self.store(scores, version)
        self.submission.fill(self.reward, self.indices, scores)

    def fail(self, reason: str) -> None:
        self.submission.fill(self.reward, self.indices, failures(len(self.indices), reason))
