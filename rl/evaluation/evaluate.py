"""Runs an evaluation: held-out prompts with fixed seeds, and a grid of the same prompts' pictures each time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rl.config.sections.milestones import EvalConfig
from rl.evaluation.results import OVERALL, Evaluation, Outcome, Tile, grid_path, mark, save
from rl.tracking.grid import make_grid
from rl.types import Prompt, Score, UserError
from rollout.seeds import sample_seed

UNTAGGED = "untagged"

Pipeline = Callable[[Sequence[Prompt], int, Sequence[int]], tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]]
"""Sample, paint and score without learning: P prompts, k samples each, P * k seeds (group-major).

Returns (P * k, H, W, 3) pictures and P * k scores per reward. Decoder noise must also depend on
nothing but the prompt and these seeds, or evaluations cannot be compared.
"""


def evaluate(
    step: int,
    prompts: Sequence[Prompt],
    pipeline: Pipeline,
    run_folder: Path,
    options: EvalConfig,
    prompts_per_batch: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Runs the pipeline over all prompts and saves ``evaluation-<step>.json`` and ``.png`` in the run folder.

    The seeds depend on ``eval.seed`` and the prompt only, so every evaluation of a run, and of two runs with the same
    seed, can be compared pair by pair. ``progress`` hears how many pictures are done, of how many. Raises UserError
    for no prompts or for two prompts with one id.
    """
    _check(prompts)
    shown = {prompt.id for prompt in grid_prompts(prompts, options.grid)}
    outcomes: list[Outcome] = []
    for_grid: list[_Shown] = []
    for start in range(0, len(prompts), prompts_per_batch):
        progress(start * options.samples_per_prompt, len(prompts) * options.samples_per_prompt)
        batch = prompts[start : start + prompts_per_batch]
        samples = [(prompt, index) for prompt in batch for index in range(options.samples_per_prompt)]
        seeds = [sample_seed(options.seed, 0, prompt.id, index) for prompt, index in samples]
        pictures, scores = pipeline(batch, options.samples_per_prompt, seeds)
        for place, ((prompt, index), sampled_with) in enumerate(zip(samples, seeds, strict=True)):
            found = outcomes_of(prompt, sampled_with, {name: by[place] for name, by in scores.items()})
            outcomes += found
            if prompt.id in shown and index == 0:
                marks = {one.reward: one.value for one in found}
                for_grid.append(_Shown(prompt, sampled_with, pictures[place], marks))
    progress(len(prompts) * options.samples_per_prompt, len(prompts) * options.samples_per_prompt)
    evaluation = Evaluation(step, tuple(outcomes), _save_grid(run_folder, step, for_grid))
    save(evaluation, run_folder)
    return evaluation


def task_of(prompt: Prompt) -> str:
    return str(prompt.metadata.get("tag") or UNTAGGED)


def pictures_of_tasks(prompts: Sequence[Prompt], samples: int) -> dict[str, int]:
    """Of an evaluation with so many samples of each prompt; ``overall``: of all tasks."""
    found = Counter(map(task_of, prompts))
    found[OVERALL] = len(prompts)
    return {task: count * samples for task, count in found.items()}


def strict_value(score: Score) -> float | None:
    """The reward's own pass or fail where it declares one, else its value; None if not scored."""
    if score.value is None or score.passed is None:
        return score.value
    return score.passed


def grid_prompts(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """The first prompts of every task in turn: the same ones at every evaluation, all tasks shown."""
    by_task: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_task[task_of(prompt)].append(prompt)
    tasks = len(by_task)
    share = {task: count // tasks + (place < count % tasks) for place, task in enumerate(by_task)}
    return [prompt for task, members in by_task.items() for prompt in members[: share[task]]]


class _Shown(NamedTuple):
    """A picture for the grid."""

    prompt: Prompt
    seed: int
    picture: NDArray[np.uint8]
    marks: Mapping[str, float | None]


def _check(prompts: Sequence[Prompt]) -> None:
    if not prompts:
        raise UserError("there are no evaluation prompts: data.eval gave an empty list")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise UserError(f"two prompts of data.eval have the id {prompt.id!r}: give each prompt its own id")
        seen.add(prompt.id)


def outcomes_of(prompt: Prompt, seed: int, scores: Mapping[str, Score]) -> list[Outcome]:
    """Of the rewards that apply to the prompt."""
    return [
        Outcome(
            reward,
            task_of(prompt),
            prompt.id,
            seed,
            strict_value(score),
            score.failure,
            score.details,
            graded=None if score.passed is None else score.value,
        )
        for reward, score in scores.items()
        if score.value is not None or score.failed
    ]


def _save_grid(run_folder: Path, step: int, shown: Sequence[_Shown]) -> tuple[Tile, ...]:
    if not shown:
        return ()
    captions = ["".join(f"[{mark(value)}] " for value in one.marks.values()) + one.prompt.text for one in shown]
    grid = make_grid(np.stack([one.picture for one in shown]), captions)
    grid.save(grid_path(run_folder, step))
    return tuple(
        Tile(one.prompt.id, one.prompt.text, task_of(one.prompt), one.seed, box, one.marks)
        for one, box in zip(shown, grid.boxes, strict=True)
    )
