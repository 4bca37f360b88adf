"""From what two samples took to what a step and a run will take: an estimate, until the first step is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from rl.config.schema import Config
from rl.rehearsal.meter import Measured
from rl.tracking.clock import duration

_SIDE_BY_SIDE = {"cuda": 128, "cpu": 4}
"""Sequences that are sampled in the time of one: so many share a reading of the weights before arithmetic is what
takes the time."""
_AT_ONCE = 256  # sequences that the engines sample at once where ``rollout.options.max_num_seqs`` says nothing else


@dataclass(frozen=True)
class Work:
    """What a step and a run have to do."""

    samples: int
    pictures: int
    """Of a step: ``render.renders`` of each sample."""
    steps: int
    evaluations: int
    held_out: int
    """Pictures of one evaluation."""
    at_once: int
    device: str
    reward_workers: int
    """Of the reward that has the fewest."""

    @classmethod
    def of(cls, config: Config, first_step: int, held_out: int, device: str, reward_workers: int) -> Work:
        samples, steps = config.data.prompts_per_step * config.rollout.group_size, config.train.steps
        at_once = config.rollout.options.get("max_num_seqs")
        due = [done for done in range(first_step, steps + 1) if config.eval.due(done, steps)] if held_out else []
        return cls(
            samples=samples,
            pictures=samples * config.render.renders,
            steps=steps - first_step,
            evaluations=len(due),
            held_out=held_out * config.eval.samples_per_prompt,
            at_once=at_once if isinstance(at_once, int) else _AT_ONCE,
            device=device,
            reward_workers=reward_workers,
        )

    def rows(self, stage: str) -> int:
        """How often a step does it."""
        return self.pictures if stage in ("paint", "score") else self.samples


def step_seconds(measured: Mapping[str, Measured], work: Work) -> float:
    """Of a step: every part as often as it is done, scoring beside painting."""
    each = {stage: one.each * work.rows(stage) for stage, one in measured.items()}
    if "sample" in each:
        each["sample"] = _sampling(measured["sample"], work)
    if "score" in each:
        # two were scored side by side where there are two workers or more
        each["score"] *= min(work.reward_workers, measured["score"].rows) / work.reward_workers
        each["score"] = max(0.0, each["score"] - each.get("paint", 0.0))
    return sum(each.values())


def run_seconds(measured: Mapping[str, Measured], work: Work) -> float:
    """Of all steps, and of evaluations, which do what a step does until something is learnt."""
    learnt = {"update", "guards"}
    acting = step_seconds({stage: one for stage, one in measured.items() if stage not in learnt}, work)
    evaluation = acting * work.held_out / work.pictures
    return work.steps * step_seconds(measured, work) + work.evaluations * evaluation


def told(measured: Mapping[str, Measured], work: Work) -> str:
    """One line of what was measured, and what it means."""
    parts = ", ".join(
        f"{stage} {one.rows} in {_short(one.seconds)}{_memory(one.peak)}" for stage, one in measured.items()
    )
    steps = f"{work.steps:,} step{'' if work.steps == 1 else 's'}"
    evaluated = f" and {work.evaluations} evaluation{'' if work.evaluations == 1 else 's'}" if work.evaluations else ""
    whole = duration(run_seconds(measured, work))
    if work.steps:
        about = f"a step takes about {duration(step_seconds(measured, work))}, {steps}{evaluated} about {whole}"
    else:
        about = f"{work.evaluations} evaluation{'' if work.evaluations == 1 else 's'} take about {whole}"
    return f"rehearsal of one prompt: {parts}; estimated from these few, {about}"


def _sampling(one: Measured, work: Work) -> float:
    together = min(work.samples, work.at_once)
    rounds = ceil(work.samples / together)
    return one.seconds * rounds * max(1.0, together / max(one.rows, _SIDE_BY_SIDE[work.device]))


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def _memory(peak: int) -> str:
    return f" ({peak / 1e9:.1f} GB)" if peak else ""
