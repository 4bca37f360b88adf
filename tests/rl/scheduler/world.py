"""A world for the scheduler that misbehaves as told by a seed: workers die, answer twice, late, wrongly or never."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import numpy as np

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
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import Lease, WorkPlan


@dataclass
class Chances:
    """Of one lease, or of one update for the last two."""

    death: float = 0.0
    twice: float = 0.0
    slow: float = 0.0
    silence: float = 0.0
    refusal: float = 0.0
    wrong_version: float = 0.0
    trainer_death: float = 0.0
    trainer_silence: float = 0.0


@dataclass
class World:
    """Obeys a scheduler until the end; what it was told to learn, and all that it saw."""

    plan: WorkPlan
    workers: dict[str, int]
    seed: int
    chances: Chances = field(default_factory=Chances)
    saves_every: int = 3
    learnt: dict[int, Learn] = field(default_factory=dict)
    made: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    dropped: set[int] = field(default_factory=set)
    kills: list[str] = field(default_factory=list)
    end: Action | None = None
    now: float = 0.0

    def run(self, scheduler: Scheduler | None = None) -> World:
        self.scheduler = scheduler or Scheduler(self.plan)
        self._rng, self._order = np.random.default_rng(self.seed), count()
        self._events: list[tuple[float, int, Event]] = []
        self._trained, self._logged, self._names = self.scheduler.published, self.scheduler.collected, count()
        self._stage_of: dict[str, str] = {}
        self._running: dict[int, Lease] = {}
        for stage, number in self.workers.items():
            for _ in range(number):
                self._start(stage, 0.0)
        self._later(0.0, TrainerReady(0.0, self._trained))
        while self.end is None:
            wake = self.scheduler.wake_at()
            if self._events and self._events[0][0] <= wake:
                self.now, _, event = heapq.heappop(self._events)
            else:
                assert wake < float("inf"), "nothing will ever happen again"
                self.now, event = wake, TimePassed(wake)
            self._forget(event)
            for action in self.scheduler.on(event):
                self._obey(action)
        return self

    def _forget(self, event: Event) -> None:
        """Nobody is at work on it any more."""
        gone = [
            number
            for number, lease in self._running.items()
            if (isinstance(event, WorkerDied) and event.worker == lease.worker)
            or (isinstance(event, (Answered, LeaseFailed)) and event.lease == lease)
        ]
        for number in gone:
            del self._running[number]

    def _later(self, at: float, event: Event) -> None:
        heapq.heappush(self._events, (at, next(self._order), event))

    def _start(self, stage: str, at: float) -> None:
        name = f"{stage}-{next(self._names)}"
        self._stage_of[name] = stage
        self._later(at, WorkerReady(at, name, stage))

    def _obey(self, action: Action) -> None:
        match action:
            case Assign(lease):
                self._work(lease)
            case Learn():
                self._learn(action)
            case DropWeights(version):
                assert all(lease.version != version for lease in self._running.values()), "dropped while at work"
                self.dropped.add(version)
            case KillWorker(worker, why):
                self.kills.append(why)
                self._forget(WorkerDied(self.now, worker, why))
                self._start(self._stage_of[worker], self.now + 5)
            case KillTrainer(why):
                self.kills.append(why)
                self._restart_trainer(5)
            case StopRun() | RunDone():
                self.end = action

    def _work(self, lease: Lease) -> None:
        assert lease.version == self.plan.version_of(lease.step) <= self.scheduler.published
        assert lease.version not in self.dropped, "weights are named that were dropped"
        self._check_block(lease)
        self._running[lease.number] = lease
        chances, draw = self.chances, self._rng.random()
        at = self.now + float(self._rng.uniform(0.5, 1.5)) * len(lease.keys)
        fates = np.cumsum([chances.death, chances.silence, chances.refusal, chances.wrong_version])
        if draw < fates[0]:
            self._later(at, WorkerDied(at, lease.worker, "out of memory"))
            self._start(self._stage_of[lease.worker], at + 3)
            if self._rng.random() < 0.5:  # its answer was on the way
                self._later(at + 4, Answered(at + 4, lease, lease.version))
        elif draw < fates[1]:
            pass
        elif draw < fates[2]:
            self._later(at, LeaseFailed(at, lease, "CUDA error"))
        elif draw < fates[3]:
            self._later(at, Answered(at, lease, lease.version - 1))
        else:
            if self._rng.random() < chances.slow:
                at += float(self._rng.uniform(5, 80))
            self._later(at, Answered(at, lease, lease.version))
            for key in lease.keys:
                self.made[lease.stage, key.step, key.position] += 1
            if self._rng.random() < chances.twice:
                again = at + float(self._rng.uniform(0, 30))
                self._later(again, Answered(again, lease, lease.version))

    def _check_block(self, lease: Lease) -> None:
        """Those that are computed side by side are the same whoever is there, until somebody has failed on them."""
        stage = next(one for one in self.plan.stages if one.name == lease.stage)
        if not stage.blocks:
            return
        first = lease.keys[0].position // stage.most_groups * stage.most_groups
        block = range(first, min(first + stage.most_groups, self.plan.groups))
        places = [key.position for key in lease.keys]
        assert set(places) <= set(block), "a lease reaches over the end of its block"
        if not any(vars(self.chances).values()):
            assert places == list(block), "a block is torn apart and nobody has failed"

    def _learn(self, order: Learn) -> None:
        assert order.step == self._trained, "a step is learnt out of order"
        assert order.replay == (order.step in self.learnt or order.step < self._logged)
        if not order.replay:
            assert order.step not in self.learnt, "a step is learnt twice"
            self.learnt[order.step] = order
        at, draw = self.now + float(self._rng.uniform(1, 3)), self._rng.random()
        if draw < self.chances.trainer_death:
            self._later(at, TrainerDied(at, "rank 1 is gone"))
            self._restart_trainer(at - self.now + 5)
        elif draw < self.chances.trainer_death + self.chances.trainer_silence:
            self._later(at + 50, Published(at + 50, order))  # when it has long been killed
        else:
            self._trained += 1
            self._later(at, Published(at, order))

    def _restart_trainer(self, seconds: float) -> None:
        self._trained -= self._trained % self.saves_every
        self._later(self.now + seconds, TrainerReady(self.now + seconds, self._trained))
