"""What the scheduler is told and what it answers: plain values. Times are seconds from any beginning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rl.scheduler.work import GroupKey, Lease


@dataclass(frozen=True)
class WorkerReady:
    """A worker is there. One that takes the place of another has a name of its own, so that late news of the other
    does not count against it."""

    at: float
    worker: str
    stage: str


@dataclass(frozen=True)
class WorkerDied:
    at: float
    worker: str
    reason: str


@dataclass(frozen=True)
class Answered:
    """All groups of a lease are done; ``version`` is of the weights that the worker has really used."""

    at: float
    lease: Lease
    version: int


@dataclass(frozen=True)
class LeaseFailed:
    """A lease came to nothing, and the worker lives."""

    at: float
    lease: Lease
    reason: str


@dataclass(frozen=True)
class TrainerReady:
    """All its ranks are there, with the weights of ``version``: a checkpoint's after a death."""

    at: float
    version: int


@dataclass(frozen=True)
class TrainerDied:
    """One rank's death is the death of all."""

    at: float
    reason: str


@dataclass(frozen=True)
class Published:
    """The order to learn is obeyed and the new weights stand ready for everybody."""

    at: float
    order: Learn


@dataclass(frozen=True)
class TimePassed:
    """Nothing happened until now; due when ``Scheduler.wake_at`` says so."""

    at: float


WorkerEvent = WorkerReady | WorkerDied | Answered | LeaseFailed
TrainerEvent = TrainerReady | TrainerDied | Published
Event = WorkerEvent | TrainerEvent | TimePassed


@dataclass(frozen=True)
class Assign:
    """The worker is to do this. It loads the weights that the lease names, if it has others."""

    lease: Lease


@dataclass(frozen=True)
class Learn:
    """The trainer is to learn from this step, whole: ``groups`` are those that have come through."""

    number: int
    step: int
    version: int
    """Of the weights that made the step."""
    groups: tuple[GroupKey, ...]
    failed: Mapping[GroupKey, str] = field(default_factory=dict)
    """The rest, each with its reason."""
    replay: bool = False
    """It was learnt before: its experience is in the log."""


@dataclass(frozen=True)
class DropWeights:
    """No work will name this version again, and none that names it is going on."""

    version: int


@dataclass(frozen=True)
class KillWorker:
    """It counts as dead already; ``why`` names it and what it was about."""

    worker: str
    why: str


@dataclass(frozen=True)
class KillTrainer:
    why: str


@dataclass(frozen=True)
class StopRun:
    """It cannot go on; the last action."""

    why: str


@dataclass(frozen=True)
class RunDone:
    """The last step is learnt; the last action."""


Action = Assign | Learn | DropWeights | KillWorker | KillTrainer | StopRun | RunDone
