"""Our side: a run's live parts, collecting and learning one step when told, as ``rl.loop`` does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import psutil
import torch

from rewards.pool.alongside import rewards_starting
from rl.bench.contract import MOST_STEPS, Assignment, FloorMeasured, Seat, Seated, StageFloor, StepTaken
from rl.bench.floor import StageWork, memory_bandwidth, stage_floor
from rl.bench.kinds import profiled_kinds
from rl.bench.language_model_work import ModelSizes, adam_traffic, sampling, sync_traffic
from rl.bench.products import Product, Recorder
from rl.build import live_parts
from rl.config.schema import Config
from rl.parts import Run
from rl.preflight.prompts import check_data
from rl.process.interrupt import Interrupt
from rl.tracking.contract import STAGES, Console
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience


def take_steps(config: Config, assignment: Assignment, folder: Path, seat: Seat) -> None:
    """Answers ``seat`` until it hangs up."""
    del assignment  # everything of ours stands in the configuration
    with (
        rewards_starting(config) as rewards,
        live_parts(config, folder, check_data(config), None, rewards, Interrupt()) as run,
    ):
        experiences = run.collector.collect(0, MOST_STEPS)
        seat.tell(Seated())
        for request in seat.requests():
            if request == "step":
                taken, _ = take_step(run, experiences)
                seat.tell(taken)
            else:
                # before the floors, whose recorder makes compiled code eager
                kinds = profiled_kinds(lambda: take_step(run, experiences))
                seat.tell(FloorMeasured(measure_floors(run, experiences), kinds))


def take_step(run: Run, experiences: Iterator[Experience]) -> tuple[StepTaken, Experience]:
    began = time.perf_counter()
    experience = next(experiences)
    timer = Stopwatch(experience.seconds, run.tracker.stage)
    metrics = {**experience.metrics, **run.learner.learn(experience, timer)}
    seconds = time.perf_counter() - began
    return StepTaken(seconds, dict(timer.seconds), metrics["score"], metrics.get("ratio_deviation")), experience


def measure_floors(run: Run, experiences: Iterator[Experience]) -> list[StageFloor]:
    """Of the stages of one more step, whose products are recorded as they are called and then timed."""
    taken, works = record_work(run, experiences)
    seconds, bandwidth = cache(Product.seconds), memory_bandwidth()
    cores = len(os.sched_getaffinity(0))
    return [stage_floor(stage, works[stage], seconds, bandwidth, cores) for stage in taken.stages]


def record_work(run: Run, experiences: Iterator[Experience]) -> tuple[StepTaken, dict[str, StageWork]]:
    recorder = Recorder()
    with ExitStack() as after:
        after.callback(setattr, run.tracker, "console", run.tracker.console)
        run.tracker.console = StageListener(recorder)
        rewards_s = _others_cpu_s()
        with recorder:
            taken, experience = take_step(run, experiences)
        rewards_s = _others_cpu_s() - rewards_s
    works = {stage: StageWork(recorder.called.get(stage, {})) for stage in taken.stages}
    _complete(works, run, experience, rewards_s)
    return taken, works


class StageListener(Console):
    """Tells the recorder which stage of the step it is in."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._names = {told: name for name, told in STAGES.items()}

    def stage(self, name: str) -> None:
        self._recorder.stage = self._names.get(name, name)


def _complete(works: dict[str, StageWork], run: Run, experience: Experience, rewards_s: float) -> None:
    """What is no product, or none that torch sees."""
    config, rollout = run.config, experience.rollout
    parameters = sum(one.numel() for one in run.policy.ar.parameters())
    dtype = getattr(torch, config.policy.dtype)
    sizes = ModelSizes.of(run.policy.ar.config, run.policy.layout.num_image_tokens)
    lengths = [len(ids) for ids in rollout.prompt_ids]
    least = sampling(sizes, lengths, rollout.group_size, run.policy.layout.tokens_per_image, dtype)
    if "sample" in works and works["sample"].flops < least.flops / 2:  # an engine with kernels of its own
        works["sample"] = least
    if "update" in works:
        works["update"].traffic += adam_traffic(parameters, config.train.updates_per_rollout)
    if "sync" in works:
        works["sync"].traffic += sync_traffic(parameters, dtype)
    if "score" in works:
        works["score"].cpu_s += rewards_s


def _others_cpu_s() -> float:
    """Of the processes that this one has started: the rewards."""
    used = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in used)
