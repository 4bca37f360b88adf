"""What happens now and then: evaluation on held-out prompts, and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.collect import paint, read_back, score, vet
from rl.evaluation.evaluate import evaluate
from rl.evaluation.results import Evaluation
from rl.parts import Run
from rl.run_folder import checkpoint
from rl.types import Prompt, Rollout, Score

TRAINER_PART = "trainer"


def evaluate_if_due(run: Run, done: int) -> dict[str, float]:
    """``eval/...`` metrics after ``done`` steps, or nothing when it is not time."""
    options, last = run.config.eval, run.config.train.steps
    if not run.eval_prompts:
        return {}
    at_start, at_end = done == 0 and options.at_start, done == last and options.at_end
    between = 0 < done < last and options.every > 0 and done % options.every == 0
    if not (at_start or at_end or between):
        return {}
    return run_evaluation(run, done).flat()


def run_evaluation(run: Run, done: int) -> Evaluation:
    """Held-out prompts with the same seeds every time; writes ``evaluation-<done>.json`` and its picture grid."""
    options = run.config.eval
    found: dict[str, list[Score]] = {}

    def pipeline(
        prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[Rollout, NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
        rollout = run.sampler.sample(prompts, samples_per_prompt, seeds, temperature=run.config.rollout.temperature)
        forward, _ = read_back(run, rollout, reference=False)
        pictures, scoring = paint(run, forward, rollout, "sample", options.seed, 0, f"eval{done}-{prompts[0].id}")
        by_reward = score(run, rollout, scoring).by_reward
        for name, scores in by_reward.items():
            found.setdefault(name, []).extend(scores)
        return rollout, pictures, by_reward

    evaluation = evaluate(
        done,
        run.eval_prompts,
        pipeline,
        run.folder,
        samples_per_prompt=options.samples_per_prompt,
        seed=options.seed,
        grid=options.grid,
        prompts_per_batch=max(1, 128 // options.samples_per_prompt),
    )
    if done == 0:
        vet(run, found, first=True)
    means = [f"{name.removeprefix('eval/')} {value:.3f}" for name, value in evaluation.flat().items()]
    run.tracker.message(f"evaluation after {done} steps: {', '.join(means)}")
    return evaluation


def save_if_due(run: Run, done: int) -> None:
    """A checkpoint every ``checkpoint.every`` steps, at the end, and when the run was interrupted."""
    every = run.config.checkpoint.every
    if done == run.config.train.steps or run.interrupt.asked or (every > 0 and done % every == 0):
        save(run, done)


def save(run: Run, done: int) -> Path:
    """Raises: UserError if the disk is full; earlier checkpoints stay."""
    state = {"version": run.trainer.version, "rng": checkpoint.rng_state()}
    parts = {TRAINER_PART: run.trainer.save}
    return checkpoint.save(run.folder, done, parts, state, run.config.checkpoint.keep)


def restore(run: Run, saved: checkpoint.Checkpoint) -> None:
    """Trainer, random-number generators and guards as they were when ``saved`` was written."""
    run.trainer.load(saved.folder / TRAINER_PART)
    state: Mapping[str, Any] = saved.state
    checkpoint.restore_rng(state["rng"])
