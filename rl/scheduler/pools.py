"""The workers of one stage: who is idle, who has what, which groups wait, and who has failed on them."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from statistics import median

from rl.scheduler.ledger import Ledger
from rl.scheduler.work import GroupKey, Lease, Stage, WorkPlan

_REMEMBERED, _ENOUGH = 64, 5


class StagePool:
    """Hands out leases, the oldest step first, and takes them back."""

    def __init__(self, plan: WorkPlan, index: int, ledger: Ledger, at: float) -> None:
        self.stage: Stage = plan.stages[index]
        self.index = index
        self.leases: dict[int, Lease] = {}
        self.absent_since: float | None = at
        self.last_loss = ""
        self._plan, self._ledger = plan, ledger
        self._workers: dict[str, Lease | None] = {}
        self._idle: dict[str, None] = {}  # in the order in which they became so
        self._waiting: list[GroupKey] = []  # a heap; what is through by now is passed over
        self._held: dict[tuple[int, int], list[GroupKey]] = {}  # of a block, until the last of it is here
        self._holders: Counter[GroupKey] = Counter()
        self._tried: dict[GroupKey, list[str]] = {}
        self._failures_in_a_row: Counter[str] = Counter()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self.usual: float | None = None
        """Median seconds of a lease; None before there are enough of them."""

    def holds(self, worker: str) -> bool:
        return worker in self._workers

    def join(self, worker: str) -> None:
        self._workers[worker] = None
        self._idle[worker] = None
        self.absent_since = None

    def leave(self, worker: str, at: float, reason: str) -> None:
        """It is dead; the groups that it had wait again, or have failed."""
        lease = self._workers.pop(worker)
        self._idle.pop(worker, None)
        self._failures_in_a_row.pop(worker, None)
        self.last_loss = f"{worker}: {reason}"
        if not self._workers:
            self.absent_since = at
        if lease is not None:
            self._release(lease)
            self.give_back(lease, reason)

    def put(self, key: GroupKey) -> None:
        if self.stage.blocks:
            self._held.setdefault((key.step, self._block(key)), []).append(key)
        else:
            heapq.heappush(self._waiting, key)

    def release(self) -> None:
        """Blocks to which nobody is still on the way can be taken."""
        for (step, block), keys in list(self._held.items()):
            first = block * self.stage.most_groups
            last = min(first + self.stage.most_groups, self._plan.groups)
            if not any(self._ledger.behind(GroupKey(step, place), self.index) for place in range(first, last)):
                for key in keys:
                    heapq.heappush(self._waiting, key)
                del self._held[step, block]

    def take(self, number: int, at: float) -> Lease | None:
        """The next lease, for an idle worker; None if there is no work or nobody for it. A group goes to a worker that
        has not failed on it, as long as there is one."""
        aside: list[GroupKey] = []
        lease = None
        while lease is None and self._idle and (key := self._next()) is not None:
            worker = self._worker_for(key)
            if worker is None:
                aside.append(heapq.heappop(self._waiting))
            else:
                lease = self._hand_out(number, worker, self._batch(worker), at)
        for key in aside:
            heapq.heappush(self._waiting, key)
        return lease

    def take_over(self, slow: Lease, number: int, at: float) -> Lease | None:
        """A second lease on what a slow worker still has, for one that is idle; None if others wait or nobody is."""
        keys = tuple(key for key in slow.keys if self._ledger.waits_for(key, self.index) and self._holders[key] == 1)
        if not keys or not self._idle or self._next() is not None:
            return None
        return self._hand_out(number, next(iter(self._idle)), keys, at)

    def end(self, lease: Lease) -> bool:
        """The worker has answered and is idle. False: it had been given up, and its answer comes late."""
        if lease.number not in self.leases:
            return False
        self._release(lease)
        self._workers[lease.worker] = None
        self._idle[lease.worker] = None
        return True

    def succeeded(self, lease: Lease, at: float | None) -> None:
        """``at``: when; None if it came late."""
        if at is not None:
            self._seconds.append(at - lease.since)
            self.usual = median(self._seconds) if len(self._seconds) >= _ENOUGH else None
        self._failures_in_a_row.pop(lease.worker, None)
        for key in lease.keys:
            self._tried.pop(key, None)

    def give_back(self, lease: Lease, reason: str) -> None:
        """A failed attempt: each group waits for another one, is on its way with somebody else, or has failed."""
        for key in lease.keys:
            if not self._ledger.waits_for(key, self.index):
                continue
            tried = self._tried.setdefault(key, [])
            tried.append(lease.worker)
            if self._holders[key]:
                continue
            if len(tried) < self._plan.attempts:
                self.put(key)
            else:
                del self._tried[key]
                self._ledger.fail(key, f"{self.stage.name} failed with {', '.join(tried)}; the last: {reason}")

    def failed_again(self, worker: str) -> int:
        """How many times in a row the worker has failed, now once more."""
        self._failures_in_a_row[worker] += 1
        return self._failures_in_a_row[worker]

    def _next(self) -> GroupKey | None:
        while self._waiting and not self._ledger.waits_for(self._waiting[0], self.index):
            heapq.heappop(self._waiting)
        return self._waiting[0] if self._waiting else None

    def _worker_for(self, key: GroupKey) -> str | None:
        tried = self._tried.get(key, ())
        fresh = next((worker for worker in self._idle if worker not in tried), None)
        if fresh is None and all(worker in tried for worker in self._workers):
            return next(iter(self._idle))
        return fresh

    def _batch(self, worker: str) -> tuple[GroupKey, ...]:
        """Groups of one step, an even share of it or a block. One that has a last chance goes alone: a prompt that
        kills every engine takes no neighbour with it."""
        keys = [heapq.heappop(self._waiting)]
        if self._last_chance(keys[0]):
            return tuple(keys)
        most = self.stage.most_groups
        share = most if self.stage.blocks else even_share(self._plan.groups, len(self._workers), most)
        while len(keys) < share and (key := self._next()) is not None:
            if key.step != keys[0].step or self._last_chance(key) or worker in self._tried.get(key, ()):
                break
            if self.stage.blocks and self._block(key) != self._block(keys[0]):
                break
            keys.append(heapq.heappop(self._waiting))
        return tuple(keys)

    def _block(self, key: GroupKey) -> int:
        return key.position // self.stage.most_groups

    def _last_chance(self, key: GroupKey) -> bool:
        return 0 < self._plan.attempts - 1 <= len(self._tried.get(key, ()))

    def _hand_out(self, number: int, worker: str, keys: tuple[GroupKey, ...], at: float) -> Lease:
        lease = Lease(number, self.stage.name, worker, keys, self._plan.version_of(keys[0].step), at)
        del self._idle[worker]
        self._workers[worker] = self.leases[number] = lease
        self._holders.update(keys)
        return lease

    def _release(self, lease: Lease) -> None:
        del self.leases[lease.number]
        for key in lease.keys:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]


def even_share(groups: int, workers: int, most: int) -> int:
    """Groups of one lease such that as few rounds as possible are about equally long: 32 groups, 3 workers of at most
    8 -> two rounds of 6."""
    rounds = math.ceil(groups / (max(workers, 1) * most))
    return math.ceil(groups / (max(workers, 1) * rounds))
