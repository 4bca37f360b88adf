"""Who collects experience, and when: one contract for runs that wait for their samples and runs that don't."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from rl.collect import Collect
from rl.data.drawing.draws import PromptDraws
from rl.data.drawing.group_sizes import SharedOut
from rl.data.drawing.tasks import GroupOutcome, task_of
from rl.data.task_stream import Stream
from rl.rounds import SampledRound, chosen, joined, signal_of, success_of
from rl.run_folder.experience import ExperienceLog
from rl.run_folder.random_state import restore_rng, rng_state
from rl.tracking.contract import SAMPLED
from rl.tracking.stopwatch import Stopwatch
from rl.types import Collected, Experience, Forward, Prompt, Rollout

ROUNDS = "groups/rounds"
"""Of a step: how often it has sampled."""
CollectedT = TypeVar("CollectedT", bound=Collected, covariant=True)


class Collector(Protocol[CollectedT]):
    """What is learnt from in the steps ``first <= step < last``, in order, one at a time, whole.

    A consumer may stop early; what it leaves is collected anew after a resume, from the same seeds.
    """

    def collect(self, first: int, last: int) -> Iterator[CollectedT]: ...


@dataclass
class Serial:
    """Each step is collected with the weights that the step before has learnt: exactly on-policy."""

    turn: Collect
    stream: Stream
    seed: int

    def collect(self, first: int, last: int) -> Iterator[Experience]:
        for step in range(first, last):
            yield self.turn(step, self.stream.at(step), self.seed)


@dataclass
class Selective:
    """As :class:`Serial`, where what was scored has a say in what comes: which tasks are drawn, how many samples each
    prompt gets, and whether a step samples further prompts until enough groups have a signal.

    The last is DAPO's dynamic sampling (arXiv 2503.14476, equation 11 and algorithm 1), with a budget.
    """

    turn: Collect
    draws: PromptDraws
    seed: int
    prompts: int
    """Groups of a step."""
    budget: int | None = None
    """Prompts that a step may sample until as many groups have a signal; ``None``: it samples once."""
    sizes: SharedOut | None = None
    """How a step's samples are shared among its prompts; ``None``: all get as many."""

    def collect(self, first: int, last: int) -> Iterator[Experience]:
        for step in range(first, last):
            yield self._step(step)

    def _step(self, step: int) -> Experience:
        """Nothing of it is part of the draws' state before all of it is there."""
        self.draws.begin(step)
        shares = self.draws.shares()
        found, outcomes = self._once(step) if self.budget is None else self._until_enough(step, self.budget)
        self.draws.end(outcomes)
        return replace(found, metrics={**found.metrics, **described(outcomes, shares)})

    def _once(self, step: int) -> tuple[Experience, list[GroupOutcome]]:
        return self._round(step, self.draws.more(self.prompts), part=0)

    def _until_enough(self, step: int, budget: int) -> tuple[Experience, list[GroupOutcome]]:
        """Groups with a signal, at most ``self.prompts``; one without if there is no other."""
        kept: list[Experience] = []
        rounds: list[SampledRound] = []
        outcomes: list[GroupOutcome] = []
        missing = count = self.prompts
        while count > 0 and (prompts := self.draws.more(count)):
            found, fresh = self._round(step, prompts, part=len(rounds))
            useful = [group for group, one in enumerate(fresh) if one.signal][:missing]
            kept += [chosen(found, useful)] if useful else []
            rounds.append(SampledRound.of(found))
            outcomes += fresh
            missing -= len(useful)
            count = further(missing, sum(one.signal for one in outcomes), len(outcomes), budget, self.prompts)
        step_of_all = joined(kept or [chosen(found, [0])], rounds)
        metrics = {**step_of_all.metrics, SAMPLED: float(len(outcomes)), ROUNDS: float(len(rounds))}
        return replace(step_of_all, metrics=metrics), outcomes

    def _round(self, step: int, prompts: Sequence[Prompt], part: int) -> tuple[Experience, list[GroupOutcome]]:
        if self.sizes is None:
            found = self.turn(step, prompts, self.seed, part=part)
        else:
            repeated = self.sizes.repeated(prompts, self.draws.success)
            found = self.turn(step, repeated, self.seed, part=part, group_size=self.sizes.unit)
        return found, outcomes_of(found, prompts, self.turn.trained)


def further(missing: int, found: int, sampled: int, budget: int, most: int) -> int:
    """How many prompts the next round samples: as many as bring the groups that are missing if it goes on as it went so
    far, at most ``most`` at a time and no more than the budget has left.

    ``further(8, 24, 32, 96, 32) == 11``: three of four groups had a signal.
    """
    return min(-(-missing * sampled // max(found, 1)), most, budget - sampled)


def outcomes_of(found: Experience, prompts: Sequence[Prompt], trained: Sequence[str]) -> list[GroupOutcome]:
    told = zip(prompts, success_of(found, trained), signal_of(found), strict=True)
    return [GroupOutcome(*one) for one in told]


def described(outcomes: Sequence[GroupOutcome], shares: Mapping[str, float]) -> dict[str, float]:
    """``task/<tag>/...`` of a step: groups that were sampled, the share that passed, the share with a signal, and what
    the curriculum gave it."""
    found: dict[str, float] = {}
    for task in dict.fromkeys([*(name for name in shares if name), *(task_of(one.prompt) for one in outcomes)]):
        here = [one for one in outcomes if task_of(one.prompt) == task]
        name = f"task/{task or 'untagged'}/"
        found[f"{name}groups"] = float(len(here))
        if here:
            found[f"{name}success"] = sum(one.success for one in here) / len(here)
            found[f"{name}signal"] = sum(one.signal for one in here) / len(here)
        if task in shares:
            found[f"{name}share"] = shares[task]
    return found


class Remembering(Protocol):
    """What a collector remembers of its steps, where they are no function of their number alone; JSON."""

    state: Any


@dataclass
class Logged:
    """What another one collects, in the experience log before it is learnt from; what is in there already comes from
    there and is not collected again, with the random numbers of then and what the other one remembered.
    """

    collector: Collector
    log: ExperienceLog
    refer: Callable[[int, Rollout], Forward | None]
    """What the reference policy says about a step's rollout, where the collector asks it."""
    tell: Callable[[str], None]
    memory: Remembering | None = None
    """Of the collector."""

    def collect(self, first: int, last: int) -> Iterator[Experience]:
        end = min(self.log.upto(first), last)
        if first < end:
            steps = "the step" if end - first == 1 else f"the {end - first} steps"
            self.tell(f"{steps} since the checkpoint: learnt again from {self.log.folder}, without sampling")
        yield from map(self._again, range(first, end))
        yield from map(self._logged, self.collector.collect(end, last))  # which keeps none while it is learnt from

    def _again(self, step: int) -> Experience:
        timer = Stopwatch()
        with timer("replay"):
            logged = self.log.read(step)
        with timer("forward"):
            experience = self._referred(logged.experience)
        restore_rng(logged.rng)
        if self.memory is not None:
            self.memory.state = logged.memory
        return replace(experience, seconds=timer.seconds)

    def _referred(self, experience: Experience) -> Experience:
        """With what the reference policy says of it, and of its answers."""
        answers = experience.answers and self._referred(experience.answers)
        return replace(experience, reference=self.refer(experience.step, experience.rollout), answers=answers)

    def _logged(self, experience: Experience) -> Experience:
        self.log.write(experience, rng_state(), self.memory and self.memory.state)
        return experience
