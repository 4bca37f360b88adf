"""Events in, actions out: who does what next in a run on many workers.

The scheduler knows no network, no process and no clock. In a run it is told what Ray's references say; in
``rl.simulate`` what an event queue says. Times come with the events. The batches that are learnt from, and the version
of the weights behind each, depend on the plan alone; only who does what, and when, depends on timing and faults.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from itertools import count

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
    TrainerDied,
    TrainerReady,
    WorkerDied,
    WorkerReady,
)
from rl.scheduler.ledger import Ledger
from rl.scheduler.pools import StagePool
from rl.scheduler.trainer_state import TrainerState
from rl.scheduler.work import Lease, WorkPlan


class Scheduler:
    """``for action in scheduler.on(event): obey(action)``, until :class:`RunDone` or :class:`StopRun`.

    ``trained``: the version of the weights that a run goes on from; ``oldest``: the first version that is still there,
    if older ones are; ``collected``: the steps whose experience is in its log. Raises ValueError if these do not
    suffice to go on exactly (``WorkPlan.log_needed``).
    """

    def __init__(
        self,
        plan: WorkPlan,
        *,
        trained: int = 0,
        oldest: int | None = None,
        collected: int | None = None,
        at: float = 0.0,
    ) -> None:
        collected, oldest = trained if collected is None else collected, trained if oldest is None else oldest
        if collected < plan.log_needed(oldest):
            raise ValueError(
                f"weights of version {oldest} with logged steps below {collected}: with a staleness of "
                f"{plan.staleness} the log has to hold all steps below {plan.log_needed(oldest)}"
            )
        self.plan, self.published, self.collected = plan, trained, collected
        self.counts: Counter[str] = Counter()
        """Of events that a run reports: leases, late answers, second leases, deaths, kills."""
        self._now, self._ended = at, False
        self._ledger = Ledger(len(plan.stages), plan.groups)
        self._pools = {stage.name: StagePool(plan, i, self._ledger, at) for i, stage in enumerate(plan.stages)}
        self._trainer = TrainerState(trained, at, furthest=trained)
        self._admitted, self._kept = collected, oldest  # next step to open; oldest version that may still be named
        self._numbers, self._looks = count(), count()
        self._due: list[tuple[float, int, str, Lease | Learn | None]] = []
        self._actions: list[Action] = []
        for name in self._pools:
            self._look_at(at + plan.absence, name)
        self._look_at(at + plan.absence, "trainer")

    def on(self, event: Event) -> list[Action]:
        """What is to be done now. Events may repeat and come late; after the end there is nothing to do."""
        if self._ended:
            return []
        self._now = max(self._now, event.at)
        self._take_in(event)
        self._look_around()
        self._admit()
        self._assign()
        self._teach()
        self._drop()
        actions, self._actions = self._actions, []
        end = next((i for i, action in enumerate(actions) if isinstance(action, (StopRun, RunDone))), None)
        self._ended = end is not None
        return actions if end is None else actions[: end + 1]

    def wake_at(self) -> float:
        """When :class:`TimePassed` is due if nothing else happens; infinity while nobody is waited for."""
        while self._due and not self._matters(self._due[0][3]):
            heapq.heappop(self._due)
        return max(self._now, self._due[0][0]) if self._due else math.inf

    def _take_in(self, event: Event) -> None:
        match event:
            case WorkerReady():
                self._join(event)
            case WorkerDied():
                self._lose(event.worker, event.reason)
            case Answered():
                self._answered(event)
            case LeaseFailed():
                self._lease_failed(event)
            case TrainerReady():
                self._trainer_ready(event)
            case TrainerDied():
                self._lose_trainer(event.reason)
            case Published():
                self._publish(event)
            case TimePassed():
                pass

    # --- workers

    def _join(self, event: WorkerReady) -> None:
        self._lose(event.worker, "it was started again")
        self._pools[event.stage].join(event.worker)

    def _lose(self, worker: str, reason: str) -> None:
        """Nothing, if it is not there any more."""
        for name, pool in self._pools.items():
            if pool.holds(worker):
                pool.leave(worker, self._now, reason)
                self.counts["deaths"] += 1
                if pool.absent_since is not None:
                    self._look_at(self._now + self.plan.absence, name)

    def _kill(self, worker: str, why: str) -> None:
        self.counts["kills"] += 1
        self._lose(worker, why)
        self._actions.append(KillWorker(worker, why))

    def _answered(self, event: Answered) -> None:
        lease, pool = event.lease, self._pools[event.lease.stage]
        ours = pool.end(lease)
        if event.version != lease.version:
            if ours:
                why = f"{lease.worker} used the weights of version {event.version} where {lease.version} was asked for"
                pool.give_back(lease, why)
                self._kill(lease.worker, f"{why}, in {lease.stage} of {lease.told}")
            return
        later = list(self._pools.values())[pool.index + 1 :][:1]
        for key in lease.keys:
            if not self._ledger.advance(key, pool.index):
                self.counts["late"] += 1
            elif later:
                later[0].put(key)
        unknown = pool.usual is None
        pool.succeeded(lease, self._now if ours else None)
        if unknown:
            self._watch(pool, *pool.leases.values())

    def _lease_failed(self, event: LeaseFailed) -> None:
        lease, pool = event.lease, self._pools[event.lease.stage]
        if not pool.end(lease):
            return
        self.counts["failed leases"] += 1
        pool.give_back(lease, event.reason)
        if (times := pool.failed_again(lease.worker)) >= self.plan.attempts:
            self._kill(lease.worker, f"{lease.worker} has failed {times} times in a row; the last: {event.reason}")

    # --- the trainer

    def _trainer_ready(self, event: TrainerReady) -> None:
        self._lose_trainer("it was started again")
        self._trainer.join(event.version)
        if event.version > self.collected:
            self._stop(
                f"the trainer came with weights of version {event.version} after {self.collected} collected steps"
            )

    def _lose_trainer(self, reason: str) -> None:
        trainer = self._trainer
        if trainer.absent_since is not None:
            return
        trainer.leave(self._now, reason)
        self.counts["trainer deaths"] += 1
        self._look_at(self._now + self.plan.absence, "trainer")
        if trainer.losses >= self.plan.attempts:
            self._stop(
                f"the trainer was lost {trainer.losses} times before it had learnt step {trainer.furthest}: {reason}"
            )

    def _publish(self, event: Published) -> None:
        if self._trainer.order != event.order:
            return  # of one that had been given up
        self._trainer.finish()
        self.published = max(self.published, self._trainer.trained)

    def _teach(self) -> None:
        trainer = self._trainer
        if not trainer.idle:
            return
        if trainer.trained == self.plan.steps:
            self._actions.append(RunDone())
            return
        step, number = trainer.trained, next(self._numbers)
        version = self.plan.version_of(step)
        if step < self.collected:
            trainer.order = Learn(number, step, version, (), replay=True)
        elif self._ledger.complete(step):
            groups, failed = self._ledger.close(step)
            self.collected = step + 1
            if len(failed) > self.plan.max_failed * self.plan.groups:
                reason = next(iter(failed.values()))
                self._stop(
                    f"{len(failed)} of {self.plan.groups} groups of step {step} have failed; the first: {reason}"
                )
                return
            trainer.order = Learn(number, step, version, groups, failed)
        else:
            return
        self._actions.append(trainer.order)
        self._look_at(self._now + self.plan.update_deadline, "trainer", trainer.order)

    # --- what is due

    def _admit(self) -> None:
        """Opens every step whose weights are there."""
        first = next(iter(self._pools.values()))
        while self._admitted < self.plan.steps and self.plan.version_of(self._admitted) <= self.published:
            for key in self._ledger.open(self._admitted):
                first.put(key)
            self._admitted += 1

    def _assign(self) -> None:
        for pool in self._pools.values():
            pool.release()
            while (lease := pool.take(next(self._numbers), self._now)) is not None:
                self._hand(pool, lease)

    def _hand(self, pool: StagePool, lease: Lease) -> None:
        self.counts["leases"] += 1
        self._actions.append(Assign(lease))
        self._look_at(lease.since + pool.stage.deadline, pool.stage.name, lease)
        self._watch(pool, lease)

    def _watch(self, pool: StagePool, *leases: Lease) -> None:
        """Looks at them when they are slow, as soon as it is known what is usual."""
        if (usual := pool.usual) is not None:
            for lease in leases:
                self._look_at(lease.since + usual * self.plan.slow_factor, pool.stage.name, lease)

    def _drop(self) -> None:
        """Weights that nobody will be asked for, and nobody has at work."""
        if min(self.plan.version_of(self.collected), self.published) <= self._kept:
            return
        named = [lease.version for pool in self._pools.values() for lease in pool.leases.values()]
        oldest = min([self.plan.version_of(self.collected), self.published, *named])
        self._actions += [DropWeights(version) for version in range(self._kept, oldest)]
        self._kept = max(self._kept, oldest)

    # --- deadlines

    def _look_at(self, at: float, name: str, about: Lease | Learn | None = None) -> None:
        heapq.heappush(self._due, (at, next(self._looks), name, about))

    def _matters(self, about: Lease | Learn | None) -> bool:
        if isinstance(about, Lease):
            return about.number in self._pools[about.stage].leases
        return about is None or about == self._trainer.order

    def _look_around(self) -> None:
        while self._due and self._due[0][0] <= self._now:
            _, _, name, about = heapq.heappop(self._due)
            if not self._matters(about):
                continue
            if isinstance(about, Lease):
                self._lease_due(self._pools[name], about)
            elif about is not None:
                self._update_due(about)
            else:
                self._absence_due(name)

    def _lease_due(self, pool: StagePool, lease: Lease) -> None:
        age, usual = self._now - lease.since, pool.usual
        if self._now >= lease.since + pool.stage.deadline:  # as it was noted: a difference would be rounded
            others = "" if usual is None else f"; others take {usual:.3g} s"
            self._kill(
                lease.worker,
                f"{lease.worker} has not answered for {age:.0f} s: {lease.stage} of {lease.told} with the weights of "
                f"version {lease.version}{others}",
            )
        elif usual is not None:
            second = pool.take_over(lease, next(self._numbers), self._now)
            if second is not None:
                self.counts["second leases"] += 1
                self._hand(pool, second)
            elif self._now + usual < lease.since + pool.stage.deadline:
                self._look_at(self._now + usual, pool.stage.name, lease)

    def _update_due(self, order: Learn) -> None:
        why = f"the trainer has not published after {self.plan.update_deadline:.0f} s with step {order.step}"
        self.counts["kills"] += 1
        self._actions.append(KillTrainer(why))
        self._lose_trainer(why)

    def _absence_due(self, name: str) -> None:
        pool = self._pools.get(name)
        since, loss = (
            (self._trainer.absent_since, self._trainer.last_loss)
            if pool is None
            else (pool.absent_since, pool.last_loss)
        )
        if since is None or self._now < since + self.plan.absence:
            return  # somebody is there, or the absence is a new one and has been noted
        if pool is None or self._ledger.unfinished(pool.index):
            what = "no trainer has been there" if pool is None else f"no worker for {name} has been there"
            self._stop(f"{what} for {self._now - since:.0f} s{f'; the last lost: {loss}' if loss else ''}")
        else:
            self._look_at(self._now + self.plan.absence, name)

    def _stop(self, why: str) -> None:
        self._actions.append(StopRun(why))
