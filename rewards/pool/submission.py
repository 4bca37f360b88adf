"""Scores on their way: what ``RewardPool.submit`` returns, and the tickets that the workers take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from rewards.base import failures
from rewards.pool.shared_memory import Item, Place, Shelves, shelve
from rl.types import Sample, Score

_WAKE_S = 0.5


class Submission:
    """B samples and, per reward, B slots for their scores, each filled exactly once."""

    def __init__(
        self,
        samples: Sequence[Sample],
        rewards: Collection[str],
        shelves: Shelves,
        abandon: Callable[[Submission], None],
    ) -> None:
        self.samples = tuple(samples)
        self.shelf = shelves.take()
        self.kept = False  # a reward holds on to an array: the shelf must not be written to again
        self._items: dict[int, Item] = {}
        self._arrays: dict[int, Place] = {}
        self._slots: dict[str, list[Score | None]] = {name: [None] * len(self.samples) for name in rewards}
        self._left = len(self.samples) * len(self._slots)
        self._filled = threading.Condition()
        self._shelves = shelves
        self._abandon = abandon
        self._broken: BaseException | None = None
        self.cancelled = False
        if not self._left:
            self._release()

    @property
    def done(self) -> bool:
        """Whether every slot is filled."""
        return self._left == 0

    def shelve(self, index: int) -> None:
        """Copy a sample's picture and arrays to shared memory, once for all rewards."""
        if index not in self._items:
            self._items[index] = shelve(self.samples[index], self.shelf, self._arrays)

    def item(self, index: int) -> Item:
        """The sample as its workers get it, once it is shelved."""
        return self._items[index]

    def fill(self, reward: str, indices: Sequence[int], scores: Sequence[Score]) -> None:
        """Raises ``RuntimeError`` for a slot that is filled already: no sample is ever scored twice."""
        with self._filled:
            slots = self._slots[reward]
            for index, score in zip(indices, scores, strict=True):
                if slots[index] is not None:
                    raise RuntimeError(f"reward {reward!r} scored sample {self.samples[index].id!r} twice")
                slots[index] = score
            self._left -= len(indices)
            if self._left == 0 and indices:
                self._release()
                self._filled.notify_all()

    def _release(self) -> None:
        if self.kept:
            self.shelf.close()
        else:
            self._shelves.give_back(self.shelf)

    def cancel(self) -> None:
        """Kill the workers that are busy with these samples; what is missing becomes failures (``interrupted``)."""
        self.cancelled = True
        self._abandon(self)

    def break_off(self, error: BaseException) -> None:
        """``result`` raises this: a fault of the pool itself, not of a reward."""
        with self._filled:
            self._broken = error
            self._filled.notify_all()

    def result(self) -> dict[str, list[Score]]:
        """Waits; B scores per reward, in the order of the samples. Interrupted (Ctrl-C), it cancels."""
        try:
            with self._filled:
                while not self._filled.wait_for(lambda: self.done or self._broken is not None, timeout=_WAKE_S):
                    pass  # awake now and then: a signal that the system gave to another thread is handled by this one
                if self._broken is not None:
                    raise RuntimeError(f"the reward pool broke: {self._broken}") from self._broken
        except BaseException:
            self.cancel()
            raise
        return {name: [score for score in slots if score is not None] for name, slots in self._slots.items()}


def gather(submissions: Iterable[Submission]) -> dict[str, list[Score]]:
    """The scores of several submissions as if they had been one; interrupted, it cancels them all."""
    waiting = list(submissions)
    merged: dict[str, list[Score]] = {}
    try:
        for submission in waiting:
            for name, scores in submission.result().items():
                merged.setdefault(name, []).extend(scores)
    except BaseException:
        for submission in waiting:
            submission.cancel()
        raise
    return merged


@dataclass
class Ticket:
    """One call of one reward: which samples of a submission, and how often it was tried."""

    submission: Submission
    reward: str
    indices: Sequence[int]
    attempts: int = 0
    store: Callable[[Sequence[Score], str], None] | None = field(default=None, repr=False)

    @property
    def samples(self) -> list[Sample]:
        return [self.submission.samples[index] for index in self.indices]

    @property
    def items(self) -> list[Item]:
        return [self.submission.item(index) for index in self.indices]

    def succeed(self, scores: Sequence[Score], version: str) -> None:
        if self.store is not None:
            self.store(scores, version)
        self.submission.fill(self.reward, self.indices, scores)

    def fail(self, reason: str) -> None:
        self.submission.fill(self.reward, self.indices, failures(len(self.indices), reason))
