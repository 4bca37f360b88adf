"""The collector of a run whose steps are made by others while it learns: bounded staleness by construction.

Step k is sampled and painted with exactly the weights after k - staleness steps, whoever does it and whenever. So the
experience is a function of configuration and seed, as a serial run's is, and nothing is ever too old.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from rewards.pool.submission import Submission
from rl.cluster.board import FinishedStep, StepBoard
from rl.cluster.crew import Crew
from rl.cluster.dispatcher import Dispatcher
from rl.cluster.jobs import Painted, PaintJob, Sampled, SampleJob
from rl.cluster.packed import PackedRollout, bare
from rl.cluster.publisher import WeightPublisher
from rl.cluster.references import StoredReferences
from rl.cluster.usage import ClusterUsage
from rl.collect import Collect
from rl.collectors import described, outcomes_of
from rl.config.schema import Config
from rl.data.drawing.ahead import DrawnAhead
from rl.data.task_stream import Stream
from rl.rows import group_prompts
from rl.run_folder.usage import TRAINER_RESTARTS, CallSpan
from rl.scheduler.events import Learn, RunDone
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import GroupKey, Lease, Stage, WorkPlan
from rl.tracking.contract import GUARD_PREFIX, NUMERICS, worker_numbers
from rl.tracking.guards.pictures import evenly
from rl.tracking.stopwatch import Stopwatch
from rl.tracking.tracker import Tracker
from rl.types import Experience, Prompt, Rollout, Sample, UserError
from rollout.samplers.base import Encode
from rollout.seeds import group_seeds

_SIDE_BY_SIDE = 256  # sequences that an engine samples at one time if its options don't say


@dataclass
class Ahead:
    """See :mod:`rl.collectors`; this process's ``turn`` is for what is left when the pictures are there."""

    config: Config
    turn: Collect
    stream: Stream
    encode: Encode
    crews: Mapping[str, Crew]
    publisher: WeightPublisher
    tracker: Tracker
    restarts: Callable[[], int] = lambda: 0
    """Of the trainers, until now."""
    references: StoredReferences | None = None
    """What painters see of the pictures that are to be changed; ``None``: nothing."""

    def collect(self, first: int, last: int) -> Iterator[Experience]:
        if first >= last:
            return
        if isinstance(self.stream, DrawnAhead):
            self.stream.begin(first)
        self.publisher.stand_still(first)
        board = StepBoard(partial(submit, self.turn))
        desk = _Desk(self.config, self.stream, self.encode, self.publisher, board, self.references)
        dispatcher = Dispatcher(self._scheduler(first, last), self.crews, desk, self.tracker.message)
        usage, in_turns = self._usage(), self.config.rollout.sleep > 0

        def published() -> None:
            usage.published(self._restarted())
            if not in_turns:
                dispatcher.published()

        self.publisher.published = published
        dispatcher.start()
        try:
            while True:
                timer = Stopwatch(tell=self.turn.tell)
                with timer("collect"):
                    order = dispatcher.next_order()
                if not isinstance(order, Learn):
                    assert isinstance(order, RunDone)
                    self.tracker.message(usage.told({**dispatcher.counts, **self._restarted()}))
                    return
                queued = desk.board.queued(self._under_way(order.step, last), groups_of(self.config))
                step = desk.finished(order)
                waited = timer.seconds["collect"]
                counts = {**dispatcher.counts, **self._restarted()}
                row = usage.ordered(order, step, waited=waited, queued=queued, counts=counts)
                self.tracker.workers(worker_numbers(row))
                waiting = [self._experience(order, step, timer)]
                del step  # or its pictures would stay while the next ones are made
                yield waiting.pop()
                self.publisher.stand_still(order.step + 1)
                if in_turns:  # samplers wake when all else is done, evaluations too
                    dispatcher.published()
        finally:
            self.publisher.published = None
            dispatcher.close()
            desk.board.close()

    def _restarted(self) -> dict[str, int]:
        restarts = self.restarts()
        return {TRAINER_RESTARTS: restarts} if restarts else {}

    def _usage(self) -> ClusterUsage:
        sizes = {role: crew.size for role, crew in self.crews.items()}
        return ClusterUsage(
            Path(str(self.config.run.folder)),
            sizes,
            lambda: {role: crew.worked() for role, crew in self.crews.items()},
        )

    def _under_way(self, step: int, last: int) -> range:
        """Steps that may have begun when this one is learnt."""
        return range(step, min(step + self.config.loop.staleness + 1, last))

    def _scheduler(self, first: int, last: int) -> Scheduler:
        plan = work_plan(self.config, last)
        oldest = self.publisher.oldest
        if plan.log_needed(oldest) > first:
            raise UserError(
                f"loop.staleness: {plan.staleness}, so what comes after step {first} was begun with weights that are "
                "gone, and the experience log lacks it; begin a new run"
            )
        return Scheduler(plan, trained=first, oldest=oldest, at=time.monotonic())

    def _experience(self, order: Learn, step: FinishedStep, timer: Stopwatch) -> Experience:
        if self.config.rollout.sleep:
            with timer("sample"):
                self.turn.nap(order.step)
        if step.renders is None:
            experience = self.turn.painted_and_scored(order.step, step.rollout, self.config.run.seed, timer)
        else:
            forward = None
            if step.renders.trajectory is not None:  # the decoder learns on what was painted
                _, forward = self.turn.read(step.rollout, timer)
            experience = self.turn.concluded(order.step, step.rollout, step.renders, step.waiting, timer, forward)
        found = {} if self.publisher.in_step else {NUMERICS: step.apart}  # in step there is no age to tell it from
        if not self.publisher.in_step and step.mismatch is not None:
            found["sync_mismatch"] = step.mismatch
        if step.returned is not None:
            found[GUARD_PREFIX + "render_fidelity"] = step.returned
        if order.failed:
            found["failed_groups"] = float(len(order.failed))
            for key, reason in order.failed.items():
                self.tracker.message(f"step {order.step}: prompt {key.position} is left out: {reason}")
        if isinstance(self.stream, DrawnAhead):
            outcomes = outcomes_of(experience, group_prompts(experience.rollout), self.turn.trained)
            found |= described(outcomes, self.stream.end(order.step, outcomes))
        return replace(experience, metrics={**experience.metrics, **found})


@dataclass
class _Desk:
    """The dispatcher's: jobs out of the plan, answers onto the board."""

    config: Config
    stream: Stream
    encode: Encode
    publisher: WeightPublisher
    board: StepBoard
    references: StoredReferences | None = None

    def job(self, lease: Lease) -> SampleJob | PaintJob:
        if lease.stage == "paint":
            rollout = self.board.rollout(lease.keys)
            return PaintJob(
                lease.step,
                PackedRollout.of(rollout),
                self._looked_at(lease),
                self.references.of(lease.step, rollout.prompts) if self.references else (),
                renders=self.config.schedule.phase(lease.step).renders,
                drawn=self.config.painters_follow and self.config.schedule.learns(lease.step, "decoder"),
                decoder=None if self.publisher.beside is None else self.publisher.beside.sets[lease.version],
            )
        options, count = self.config.rollout, self._group_size(lease.step)
        prompts = self.stream.at(lease.step)
        seeds = group_seeds(self.config.run.seed, lease.step, prompts, count)
        asked = [prompts[key.position] for key in lease.keys]
        return SampleJob(
            [bare(prompt) for prompt in asked],
            [self.encode(prompt) for prompt in asked],
            count,
            [seeds[key.position * count + index] for key in lease.keys for index in range(count)],
            options.temperature,
            options.top_p,
            options.top_k,
        )

    def set_of(self, version: int) -> int | None:
        return self.publisher.sets[version]

    def take_in(self, lease: Lease, answer: Any, pictures: Any) -> None:
        at = time.monotonic()
        call = CallSpan(lease.worker, lease.step, at - answer.seconds, at)
        if isinstance(answer, Sampled):
            prompts = self.stream.at(lease.step)
            rollout = answer.rollout.rollout([prompts[key.position] for key in lease.keys])
            rollout = replace(rollout, version=self.publisher.trained[answer.version])
            self.board.sampled(lease.keys, rollout, answer.mismatch, call)
        elif isinstance(answer, Painted):
            found = ray.get(pictures, timeout=self.config.cluster.timeout_s)
            self.board.painted(lease.keys, found, answer, call)

    def failed(self, lease: Lease) -> None:
        if self.references:
            self.references.forget(lease.step)

    def drop(self, version: int) -> None:
        self.publisher.drop(version)

    def finished(self, order: Learn) -> FinishedStep:
        if self.references:
            self.references.forget(order.step)
        return self.board.take(order.groups)

    def _looked_at(self, lease: Lease) -> list[int]:
        """Samples of a lease that the guard of render fidelity looks at, where this process has no tokenizer itself."""
        if not self.config.cluster.trainers:
            return []
        count, groups = self._group_size(lease.step), groups_of(self.config)
        chosen = set(evenly(groups * count, self.config.guards.render_fidelity_share).tolist())
        samples = [key.position * count + index for key in lease.keys for index in range(count)]
        return [place for place, sample in enumerate(samples) if sample in chosen]

    def _group_size(self, step: int) -> int:
        return self.config.schedule.phase(step).group_size or group_size_of(self.config)


def group_size_of(config: Config) -> int:
    """Samples of a group as it is handed out: of a unit, where several of them may make the group of a prompt."""
    return config.groups.unit if config.groups.sizes else config.rollout.group_size


def groups_of(config: Config) -> int:
    """Of a step, as they are handed out."""
    return config.data.prompts_per_step * config.rollout.group_size // group_size_of(config)


def submit(turn: Collect, key: GroupKey, rollout: Rollout, pictures: NDArray[np.uint8]) -> Submission:
    """A group's pictures, to the rewards."""
    prompt: Prompt = rollout.prompts[0]
    first = key.position * len(pictures)
    return turn.rewards.submit(
        [Sample(f"step{key.step}-{index}", prompt.id, prompt, picture) for index, picture in enumerate(pictures, first)]
    )


def work_plan(config: Config, steps: int) -> WorkPlan:
    """Of a whole run. Groups are handed out in blocks in which the serial loop would compute them side by side, so
    that its numbers come out to the last digit, with as many workers as there may be."""
    cluster, groups, size = config.cluster, groups_of(config), group_size_of(config)
    said = config.rollout.options.get("max_num_seqs")
    side_by_side = said if isinstance(said, int) else _SIDE_BY_SIDE
    sample = cluster.sample_groups or max(1, side_by_side // size)
    paint = cluster.paint_groups or paint_groups(config, size)
    stages = tuple(
        Stage(name, min(most, groups), cluster.timeout_s, blocks=True)
        for name, most in (("sample", sample), *([("paint", paint)] if cluster.painters else []))
    )
    return WorkPlan(
        steps,
        groups,
        config.loop.staleness,
        stages,
        attempts=cluster.attempts,
        max_failed=config.reward_pool.max_failed_fraction,
        absence=cluster.start_timeout_s,
        update_deadline=math.inf,
    )


def paint_groups(config: Config, size: int) -> int:
    """The fewest, of ``size`` samples each, with which neither the forward nor the painting is cut otherwise than in a
    serial run."""
    render = config.render
    painted_rows = render.micro_batch // math.gcd(render.micro_batch, render.renders)
    return math.lcm(size, config.train.micro_batch, painted_rows) // size
