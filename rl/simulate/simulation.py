"""The scheduler of a run with invented workers: an event queue instead of a cluster, the same decisions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import simpy

from rl.run_folder.usage import CallSpan
from rl.scheduler.events import (
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
from rl.scheduler.work import GroupKey, Lease
from rl.simulate.audit import Audit
from rl.simulate.bounds import WorkerSplit
from rl.simulate.cores import SharedCores
from rl.simulate.faults import NO_FAULTS, Fate, Faults
from rl.simulate.workload import Workload
from rl.types import RunFailure

Process = Generator[simpy.Event, None, None]


@dataclass
class Simulated:
    """What was seen."""

    published: list[float] = field(default_factory=list)
    """When the weights after each step were first there."""
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of all workers of a stage together, and of ``update``."""
    staleness: Counter[int] = field(default_factory=Counter)
    """Learnt steps by the age of their weights."""
    counts: Counter[str] = field(default_factory=Counter)
    bars: list[CallSpan] = field(default_factory=list)
    learnt: int = 0
    """Groups, replays apart."""
    failed: int = 0
    """Groups that too many workers had failed on."""
    most_pictures: int = 0
    """That were painted and not yet scored, at one time."""

    def step_seconds(self, staleness: int) -> float:
        """Between two published versions when everything is under way; steps come in bursts of ``staleness`` + 1."""
        burst, last = staleness + 1, len(self.published) - 1
        first = last - (last - min(2 * burst, last // 2)) // burst * burst
        if first >= last:
            first = 0
        return (self.published[last] - self.published[first]) / max(1, last - first)


class Simulation:
    """One run of ``steps`` steps on the workers of a split. ``watch``: steps of which all calls are kept."""

    def __init__(
        self,
        work: Workload,
        split: WorkerSplit,
        steps: int,
        staleness: int,
        *,
        faults: Faults = NO_FAULTS,
        seed: int = 0,
        watch: range = range(0),
        blocks: bool = False,
        cores: float | None = None,
    ) -> None:
        """``blocks``: groups are handed out as a run on a cluster does it, whole blocks of a step; ``cores``: that all
        workers share; ``None``: each has a device of its own."""
        self.plan, self._work, self._split = work.plan(steps, staleness, blocks=blocks), work, split
        self._faults, self._watch = faults, watch
        self._scheduler, self._env = Scheduler(self.plan), simpy.Environment()
        self._cores = None if cores is None else SharedCores(self._env, cores)
        self._rng = np.random.default_rng(seed)
        self._seen = Simulated()
        self._holds: dict[str, int] = {}
        self._stage: dict[str, str] = {}
        self._painted: set[GroupKey] = set()
        self._gone: set[str] = set()
        self._order: Learn | None = None
        self._saved = 0
        self.audit = Audit(self.plan)
        self._end: RunDone | StopRun | None = None

    def run(self) -> Simulated:
        """Raises RunFailure if the scheduler gives up."""
        split = self._split
        counts = (split.samplers, split.painters, split.scorers)
        for stage, count in zip(self.plan.stages, counts, strict=True):
            for _ in range(count):
                self._start(stage.name)
        self._tell(TrainerReady(0.0, 0))
        while self._end is None:
            wake = self._scheduler.wake_at()
            if min(wake, self._env.peek()) == float("inf"):
                raise AssertionError("the scheduler waits for what will never come")
            if self._env.peek() <= wake:
                self._env.step()
            else:
                if wake > self._env.now:
                    self._env.run(until=wake)
                self._tell(TimePassed(wake))
        if isinstance(self._end, StopRun):
            raise RunFailure(f"the simulated run on {self._split} stopped at {self._env.now:.0f} s: {self._end.why}")
        self.audit.ended()
        self._seen.counts = self._scheduler.counts
        return self._seen

    def _start(self, stage: str) -> None:
        worker = f"{stage}-{len(self._stage)}"
        self._stage[worker] = stage
        self._tell(WorkerReady(self._env.now, worker, stage))

    def _tell(self, event: Event) -> None:
        for action in self._scheduler.on(event):
            match action:
                case Assign(lease):
                    self.audit.assigned(lease)
                    self._env.process(self._serve(lease))
                case Learn():
                    self.audit.ordered(action)
                    self._seen.learnt += len(action.groups)
                    self._seen.failed += len(action.failed)
                    self._order = action
                    self._env.process(self._learn(action))
                case DropWeights(version):
                    self.audit.dropped(version)
                case KillWorker(worker):
                    self._env.process(self._restart(worker))
                case KillTrainer():
                    self._order = None
                    self._env.process(self._restart_trainer())
                case RunDone() | StopRun():
                    self._end = action

    def _serve(self, lease: Lease) -> Process:
        started, seconds = self._env.now, self._seconds(lease)
        failure, fate = self._failure(1), self._faults.fate(self._rng)
        if fate is Fate.DEATH:
            failure = min(failure, seconds * float(self._rng.random()))
        if failure < seconds:
            yield self._env.timeout(failure)
            yield from self._die(lease)
            return
        if fate is Fate.SILENCE:
            self.audit.struck_call(fate, lease, started)
            return
        yield from self._busy(seconds)
        self._note(lease.stage, lease.worker, lease.step, started)
        if fate in (Fate.REFUSAL, Fate.OTHER_WEIGHTS):
            self.audit.struck_call(fate, lease, self._env.now)
        if fate is Fate.REFUSAL:
            self._tell(LeaseFailed(self._env.now, lease, "simulated error"))
        elif fate is Fate.OTHER_WEIGHTS:
            self._tell(Answered(self._env.now, lease, lease.version - 1))
        else:
            self._answer(lease)
        if fate is Fate.REPEATED:
            self.audit.struck[fate] += 1
            yield self._env.timeout(float(self._rng.exponential(seconds)))
            self._answer(lease)

    def _busy(self, seconds: float) -> Process:
        if self._cores is None:
            yield self._env.timeout(seconds)
        else:
            yield from self._cores.work(seconds)

    def _answer(self, lease: Lease) -> None:
        self._count_pictures(lease)
        self.audit.answered(lease, self._env.now)
        self._tell(Answered(self._env.now, lease, lease.version))

    def _die(self, lease: Lease) -> Process:
        """Unless it has been killed meanwhile."""
        if lease.worker in self._gone:
            return
        self.audit.struck_call(Fate.DEATH, lease, self._env.now)
        self._tell(WorkerDied(self._env.now, lease.worker, "simulated failure"))
        if self._faults.follows_death(self._rng):
            self._answer(lease)
        yield from self._restart(lease.worker)

    def _seconds(self, lease: Lease) -> float:
        work, load = self._work, 0.0
        if lease.stage != "score" and self._holds.get(lease.worker, 0) != lease.version:
            self._holds[lease.worker], load = lease.version, work.costs.load
        each = {"sample": work.sample(len(lease.keys)), "paint": work.paint, "score": work.score}
        slow = self._slowness()
        if slow > 1:
            self.audit.struck_call(Fate.SLOW, lease, self._env.now)
        return load + each[lease.stage] * slow * self._luck()

    def _slowness(self) -> float:
        return self._faults.slow_factor if self._rng.random() < self._faults.slow else 1.0

    def _luck(self) -> float:
        """A call's seconds, as a share of what it takes on average."""
        return max(0.2, float(self._rng.normal(1.0, self._work.costs.jitter)))

    def _failure(self, workers: int) -> float:
        hours = self._faults.hours_between
        return float(self._rng.exponential(hours * 3600 / workers)) if hours else float("inf")

    def _restart(self, worker: str) -> Process:
        self._gone.add(worker)
        yield self._env.timeout(self._faults.restart)
        self._start(self._stage[worker])

    def _learn(self, order: Learn) -> Process:
        seconds = self._work.update(self._split.trainers) * self._slowness() * self._luck()
        failure, started = self._failure(self._split.trainers), self._env.now
        if not self._faults.arrives(self._rng):
            self.audit.struck_update(Fate.UNPUBLISHED, order, started)
            seconds += self.plan.update_deadline
        if failure < seconds:
            yield self._env.timeout(failure)
            if self._order is order:
                self._order = None
                self.audit.struck_update(Fate.TRAINER_DEATH, order, self._env.now)
                self._tell(TrainerDied(self._env.now, "simulated failure"))
                yield from self._restart_trainer()
            return
        yield from self._busy(seconds)
        if self._order is order:  # else it has been given up, and this comes late
            self._publish(order, started)
        self._tell(Published(self._env.now, order))

    def _publish(self, order: Learn, started: float) -> None:
        self._note("update", "trainer", order.step, started)
        self.audit.published(order, self._env.now)
        if order.step == len(self._seen.published):
            self._seen.staleness[order.step - order.version] += 1
            self._seen.published.append(self._env.now)
        if (order.step + 1) % self._faults.checkpoint_every == 0:
            self._saved = max(self._saved, order.step + 1)

    def _restart_trainer(self) -> Process:
        yield self._env.timeout(self._faults.restart)
        self._tell(TrainerReady(self._env.now, self._saved))

    def _note(self, stage: str, worker: str, step: int, started: float) -> None:
        self._seen.busy[stage] += self._env.now - started
        if step in self._watch:
            self._seen.bars.append(CallSpan(worker, step, started, self._env.now))

    def _count_pictures(self, lease: Lease) -> None:
        if lease.stage == "paint":
            self._painted.update(lease.keys)
        elif lease.stage == "score":
            self._painted.difference_update(lease.keys)
        held = len(self._painted) * self._work.group_size * self._work.renders
        self._seen.most_pictures = max(self._seen.most_pictures, held)
