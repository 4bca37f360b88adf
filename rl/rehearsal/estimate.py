"""From what two samples took to what a step and a run will take: an estimate, until the first step is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from rl.config.schedule_rules import phases
from rl.config.schema import Config
from rl.rehearsal.meter import Measured
from rl.tracking.clock import duration

_SIDE_BY_SIDE = {"cuda": 128, "cpu": 4}
"""Sequences that are sampled in the time of one: so many share a reading of the weights before arithmetic is what
takes the time."""
_AT_ONCE = 256  # sequences that the engines sample at once where ``rollout.options.max_num_seqs`` says nothing else


_LEARNT = {"ar": "update", "decoder": "decoder"}
"""Each network's stage of a step."""


@dataclass(frozen=True)
class StepWork:
    """What a step has to do."""

    samples: int
    pictures: int
    """All renders of each sample."""
    learnt: frozenset[str] = frozenset()
    """The stages in which networks learn."""

    @classmethod
    def of(cls, config: Config, parts: Sequence[str]) -> StepWork:
        """Of one in which those parts learn; ``config``: as it stands there."""
        samples = config.data.prompts_per_step * config.rollout.group_size
        drawn = config.data.drawn_per_step * config.rollout.group_size
        return cls(samples, drawn * config.render.renders, frozenset(_LEARNT[part] for part in parts))

    def rows(self, stage: str) -> int:
        """How often it does it."""
        if stage in _LEARNT.values() and stage not in self.learnt:
            return 0
        return self.pictures if stage in ("paint", "score", "decoder") else self.samples


@dataclass(frozen=True)
class Work:
    """What a run has to do."""

    steps: Mapping[StepWork, int]
    """Each kind of step, and how many of them are left."""
    evaluations: int
    held_out: int
    """Pictures of one evaluation."""
    at_once: int
    device: str
    reward_workers: int
    """Of the reward that has the fewest."""

    @classmethod
    def of(cls, config: Config, first_step: int, held_out: int, device: str, reward_workers: int) -> Work:
        steps, at_once = config.train.steps, config.rollout.options.get("max_num_seqs")
        due = [done for done in range(first_step, steps + 1) if config.eval.due(done, steps)] if held_out else []
        return cls(
            steps={
                StepWork.of(phase.config, phase.parts): left
                for phase in phases(config)
                if (left := phase.steps_from(first_step))
            },
            evaluations=len(due),
            held_out=held_out * config.eval.samples_per_prompt,
            at_once=at_once if isinstance(at_once, int) else _AT_ONCE,
            device=device,
            reward_workers=reward_workers,
        )

    def most(self, stage: str) -> int:
        """How often a step does it, at most."""
        return max([step.rows(stage) for step in self.steps] or [self.held_out, 1])


def step_seconds(measured: Mapping[str, Measured], step: StepWork, work: Work) -> float:
    """Of a step: every part as often as it is done, scoring beside painting."""
    each = {stage: one.each * step.rows(stage) for stage, one in measured.items()}
    if "sample" in each:
        each["sample"] = _sampling(measured["sample"], step.samples, work)
    if "score" in each:
        # two were scored side by side where there are two workers or more
        each["score"] *= min(work.reward_workers, measured["score"].rows) / work.reward_workers
        each["score"] = max(0.0, each["score"] - each.get("paint", 0.0))
    return sum(each.values())


def run_seconds(measured: Mapping[str, Measured], work: Work) -> float:
    """Of all steps, and of evaluations, which do what a step does until something is learnt, with a sequence for each
    picture."""
    acting = {stage: one for stage, one in measured.items() if stage not in (*_LEARNT.values(), "guards")}
    evaluation = step_seconds(acting, StepWork(work.held_out, work.held_out), work)
    learning = sum(count * step_seconds(measured, step, work) for step, count in work.steps.items())
    return learning + work.evaluations * evaluation


def told(measured: Mapping[str, Measured], work: Work) -> str:
    """One line of what was measured, and what it means."""
    parts = ", ".join(
        f"{stage} {one.rows} in {_short(one.seconds)}{_memory(one.peak)}" for stage, one in measured.items()
    )
    count = sum(work.steps.values())
    steps = f"{count:,} step{'' if count == 1 else 's'}"
    evaluated = f" and {work.evaluations} evaluation{'' if work.evaluations == 1 else 's'}" if work.evaluations else ""
    whole = duration(run_seconds(measured, work))
    if work.steps:
        about = f"{_each_step(measured, work)}, {steps}{evaluated} about {whole}"
    else:
        about = f"{work.evaluations} evaluation{'' if work.evaluations == 1 else 's'} take about {whole}"
    return f"rehearsal of one prompt: {parts}; estimated from these few, {about}"


def _each_step(measured: Mapping[str, Measured], work: Work) -> str:
    seconds = {step: duration(step_seconds(measured, step, work)) for step in work.steps}
    if len(seconds) == 1:
        return f"a step takes about {next(iter(seconds.values()))}"
    whose = {"update": "the language model", "decoder": "the decoder"}
    (first, took), *others = ((" and ".join(whose[one] for one in step.learnt), took) for step, took in seconds.items())
    return f"a step of {first} takes about {took}" + "".join(f", one of {one} {took}" for one, took in others)


def _sampling(one: Measured, samples: int, work: Work) -> float:
    together = min(samples, work.at_once)
    rounds = ceil(samples / together) if together else 0
    return one.seconds * rounds * max(1.0, together / max(one.rows, _SIDE_BY_SIDE[work.device]))


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def _memory(peak: int) -> str:
    return f" ({peak / 1e9:.1f} GB)" if peak else ""
