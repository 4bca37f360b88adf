"""A run on a cluster without its networks: collector, dispatcher, scheduler, workers and weights are a run's own."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from policy.prompt import Condition
from policy.trainable import WeightStream
from rl.cluster.crew import Crew
from rl.cluster.jobs import PaintJob, RoleName, SampleJob, SetsThere, WorkerStart
from rl.cluster.places import WorkerNeeds
from rl.cluster.publisher import WeightPublisher
from rl.cluster.weights.store import WeightStore
from rl.config.load import load
from rl.config.schema import Config
from rl.data.stream import PromptStream
from rl.scheduler.work import GroupKey
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, Prompt, Renders, Rollout, Sample
from rollout.seeds import group_seeds
from tests.rl.cluster.faulting.account import Account, AccountedAhead
from tests.rl.cluster.faulting.book import PAINTERS_ALONE, Fault, FaultBook, FaultPlan
from tests.rl.cluster.faulting.engines import SHAPES
from tests.rl.run_case import ROOT

ROOM = 1 << 20
Fetch = Callable[[int, str, int, int], bytes]
PROMPTS = [Prompt(f"p{number}", "a red circle") for number in range(40)]


def configuration(folder: Path, *overrides: str) -> Config:
    """Of ``examples/geneval.yaml``: 8 groups of 4, two steps ahead; samplers take two groups, painters one."""
    folder.mkdir()
    sizes = ["data.prompts_per_step=8", "rollout.group_size=4", "cluster.sample_groups=2", "cluster.paint_groups=1"]
    ahead = ["loop=ahead", "loop.staleness=2", "cluster.attempts=20", f"run.folder={folder}"]
    return load(ROOT / "examples/geneval.yaml", [*sizes, *ahead, *overrides])


def drawn(config: Config, steps: int, counts: Mapping[Fault, int], late_s: float = 1.0) -> FaultPlan:
    """So many of each kind, each on a group of its own in a stage of its own."""
    rng, size = np.random.default_rng(7), config.rollout.group_size
    stream = PromptStream(PROMPTS, config.data.prompts_per_step, config.run.seed)
    where = {}
    for step in range(steps):
        prompts = stream.at(step)
        seeds = group_seeds(config.run.seed, step, prompts, size)
        where |= {seeds[place * size]: (step, place) for place in range(len(prompts))}
    rows = [seed for seed, (_, place) in where.items() if place % (config.cluster.sample_groups or 1) == 0]
    free = {
        "sample": [("sample", seed) for seed in rng.permutation(rows).tolist()],  # a call is about a block of groups
        "paint": [("paint", seed) for seed in rng.permutation(list(where)).tolist()],
    }
    calls = {}
    for fault, count in counts.items():
        for number in range(count if fault is not Fault.LATE else 0):
            stage = "paint" if fault in PAINTERS_ALONE or number % 2 else "sample"
            calls[free[stage].pop()] = fault
    late = rng.permutation(steps - 1)[: counts.get(Fault.LATE, 0)].tolist()  # the last step's are nobody's
    keys = {address: GroupKey(*where[address[1]]) for address in calls}
    return FaultPlan(calls, dict.fromkeys(late, late_s), keys)


@dataclass
class Turn:
    """What is left of a step when its pictures are there, and the rewards: they only count what they get."""

    tell: Callable[[str], None] | None = None
    sees_references: bool = False
    given: Counter[str] = field(default_factory=Counter)

    @property
    def rewards(self) -> Turn:
        return self

    def submit(self, samples: Sequence[Sample]) -> Any:
        self.given.update(f"{one.id} of {one.prompt.id}" for one in samples)
        return SimpleNamespace(done=True, cancel=lambda: None)

    def concluded(
        self,
        step: int,
        rollout: Rollout,
        renders: Renders,
        waiting: Sequence[Any],
        timer: Stopwatch,
        forward: None = None,
    ) -> Experience:
        nothing: Any = None
        return Experience(step, rollout, renders, nothing, None, None, rollout.version, {}, timer.seconds)


class Learner:
    """Weights that depend on every bit of all that they have learnt from."""

    def __init__(self) -> None:
        self.weights = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
        self.learnt: list[str] = []
        self._turn("the start")

    def learn(self, experience: Experience) -> None:
        rollout, renders = experience.rollout, experience.renders
        told = [experience.step, rollout.version, rollout.seeds, renders.seeds, [one.id for one in rollout.prompts]]
        arrays = (rollout.tokens_BT, rollout.logprobs_BT, renders.pictures)
        self.learnt.append(hashlib.sha256(repr(told).encode() + b"".join(map(np.ndarray.tobytes, arrays))).hexdigest())
        self._turn(self.learnt[-1])

    def stream(self) -> WeightStream:
        return WeightStream.of((name, value.clone()) for name, value in self.weights.items())

    def _turn(self, by: str) -> None:
        generator = torch.Generator().manual_seed(int(hashlib.sha256(by.encode()).hexdigest()[:12], 16))
        for value in self.weights.values():
            value += torch.randn(value.shape, generator=generator)


@dataclass
class Outcome:
    """Of a whole run."""

    learnt: list[str]
    weights: dict[str, bytes]
    account: Account
    given: Counter[str]
    said: list[str]
    restarts: int


def run(
    config: Config,
    steps: int,
    serve: Callable[[str, int], Fetch],
    plan: FaultPlan | None = None,
    disturb: Callable[[Crew, FaultBook], None] = lambda crew, book: None,
    pushed: Callable[[], None] = lambda: None,
) -> Outcome:
    """``serve``: what brings published weights to other machines; ``disturb``: the faults on the run's side;
    ``pushed``: called when new weights are there."""
    folder, name = Path(str(config.run.folder)), uuid.uuid4().hex
    books = {runs: FaultBook(folder / "faults" / ("run" if runs else "workers")) for runs in (True, False)}
    (folder / "doomed").mkdir()
    for runs, book in books.items():
        book.write(plan.side(runs=runs) if plan else {})
    sizes: dict[RoleName, int] = {"sample": config.cluster.samplers, "paint": config.cluster.painters}
    crews: dict[str, Crew] = {
        role: Crew(role, size, WorkerNeeds(1, 0, 1), config.cluster) for role, size in sizes.items()
    }
    publisher = WeightPublisher(WeightStore.open(name, room=ROOM), crews, staleness=config.loop.staleness)
    try:
        sets = SetsThere(name, ROOM, fetch=serve(name, ROOM))
        start = WorkerStart(config, sets, 100, config.loop.staleness + 1, 1e-3)
        for crew in crews.values():
            crew.load(start)
            disturb(crew, books[True])
        for crew in crews.values():
            crew.wait()
        return _run(config, steps, crews, publisher, plan, pushed)
    finally:
        for crew in crews.values():
            crew.close()
        publisher.store.discard()


def _run(
    config: Config,
    steps: int,
    crews: Mapping[str, Crew],
    publisher: WeightPublisher,
    plan: FaultPlan | None,
    pushed: Callable[[], None],
) -> Outcome:
    turn, learner, said = Turn(), Learner(), list[str]()
    tracker: Any = SimpleNamespace(message=said.append, workers=lambda numbers: None)
    stream = PromptStream(PROMPTS, config.data.prompts_per_step, config.run.seed)
    encode = lambda prompt: Condition((1, 2, 3))  # noqa: E731
    publisher.push("ar", learner.stream(), 0, {})
    collector = AccountedAhead(config, turn, stream, encode, crews, publisher, tracker)  # type: ignore[arg-type]
    for experience in collector.collect(0, steps):
        learner.learn(experience)
        time.sleep(plan.late.get(experience.step, 0.0) if plan else 0.0)
        publisher.push("ar", learner.stream(), experience.step + 1, {})
        pushed()
    collector.account.audit.ended()
    weights = {name: value.numpy().tobytes() for name, value in learner.weights.items()}
    restarts = sum(crew.restarts for crew in crews.values())
    return Outcome(learner.learnt, weights, collector.account, turn.given, said, restarts)


def groups_of(job: SampleJob | PaintJob) -> Sequence[int]:
    """The first seed of each group that a call is about."""
    if isinstance(job, PaintJob):
        return job.rollout.rest.seeds[:: job.rollout.rest.group_size]
    return job.seeds[:: job.group_size]
