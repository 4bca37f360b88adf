"""Variants in turn, step by step, so that whatever else the machine does meets them all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from rl.bench.contract import FloorMeasured, StepTaken, VariantFailed
from rl.bench.results import VariantOutcome
from rl.bench.variants import Variant

Tell = Callable[[str], None]
WARM_UP = 2


class BenchWorker(Protocol):
    """The process of one variant. Everything raises ``VariantFailed``."""

    def wait_ready(self) -> None: ...
    def step(self) -> StepTaken: ...
    def floor(self) -> FloorMeasured: ...
    def peak_mb(self) -> float: ...
    def close(self) -> None: ...


def measure(
    variants: Sequence[Variant],
    start: Callable[[Variant], BenchWorker],
    steps: int,
    tell: Tell,
    clock: Callable[[], float] = time.monotonic,
) -> list[VariantOutcome]:
    """A B C A B C ...: first ``WARM_UP`` rounds that don't count, then ``steps``. A variant that fails is left out from
    then on and keeps its reason; the others go on."""
    outcomes = {one.name: VariantOutcome(one.name, one.title) for one in variants}
    with ExitStack() as closing:
        table = Round(outcomes, {}, tell)
        for one in variants:
            table.workers[one.name] = start(one)
            closing.callback(table.workers[one.name].close)
        for one in variants:
            tell(f"loading {one.title}")
            table.turn(one.name, lambda _, worker: worker.wait_ready())
        began = clock()
        for number in range(1, WARM_UP + steps + 1):
            for one in variants:
                table.turn(one.name, _warm_up if number <= WARM_UP else _step)
            if table.workers:
                tell(table.progress(number, WARM_UP + steps, clock() - began))
        for one in variants:
            if one.side == "ours" and one.name in table.workers:
                tell(f"measuring the floor of {one.title}")
                table.turn(one.name, _floor)
    return list(outcomes.values())


def _warm_up(_: VariantOutcome, worker: BenchWorker) -> None:
    worker.step()


def _step(outcome: VariantOutcome, worker: BenchWorker) -> None:
    outcome.steps.append(worker.step())
    outcome.peak_mb = worker.peak_mb()


def _floor(outcome: VariantOutcome, worker: BenchWorker) -> None:
    """Without it the steps are as good as they were."""
    try:
        measured = worker.floor()
        outcome.floor, outcome.kinds = list(measured.stages), dict(measured.kinds)
    except VariantFailed as failure:
        outcome.floor_failure = str(failure)


@dataclass
class Round:
    """Who is still in it."""

    outcomes: Mapping[str, VariantOutcome]
    workers: dict[str, BenchWorker]
    tell: Tell

    def turn(self, name: str, act: Callable[[VariantOutcome, BenchWorker], None]) -> None:
        """``act`` of one that is still in; out it goes if it fails."""
        if (worker := self.workers.get(name)) is None:
            return
        try:
            act(self.outcomes[name], worker)
        except VariantFailed as failure:
            del self.workers[name]
            self.outcomes[name].failure = str(failure)
            self.tell(f"{self.outcomes[name].title} failed: {failure}")

    def progress(self, done: int, rounds: int, seconds: float) -> str:
        """``round 3 of 22: ours 1.71 s, trl 1.80 s; about 2 min left``."""
        last = [
            f"{name} {self.outcomes[name].steps[-1].seconds:.2f} s"
            for name in self.workers
            if self.outcomes[name].steps
        ]
        shown = ", ".join(last) or "warming up"
        return f"round {done} of {rounds}: {shown}; about {_duration(seconds / done * (rounds - done))} left"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
