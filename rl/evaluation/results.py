"""What an evaluation found: outcomes, per-task results with 95 % intervals, and the change between two evaluations.

Overall is the mean of the task accuracies (GenEval, arXiv 2310.11513, section 4). A sample whose reward failed is
counted apart and is in no mean; a sample to which a reward does not apply is not counted at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rl.evaluation.statistics import Estimate, macro_mean, mean_over_prompts, paired_bootstrap, sign_flip
from rl.run_folder.records import read_json, write_atomically
from rl.types import UserError

OVERALL = "overall"
GRADED = ", graded"
"""Behind a reward's name: its own value, which is finer than its pass or fail."""


@dataclass(frozen=True)
class Outcome:
    """One reward's verdict on one sample: ``value`` is the reward's pass or fail (1 or 0) where it declares one."""

    reward: str
    task: str
    prompt_id: str
    seed: int
    value: float | None
    failure: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    graded: float | None = None
    """The reward's own value, where it declares a pass or fail beside it."""


@dataclass(frozen=True)
class TaskResult:
    """``n`` scored samples and ``failed`` ones beside them; ``estimate`` is None if nothing could be scored."""

    n: int
    failed: int
    estimate: Estimate | None


@dataclass(frozen=True)
class Tile:
    """One fixed prompt's picture in the grid; ``marks[reward]`` is the strict value, None for a failure."""

    prompt_id: str
    text: str
    task: str
    seed: int
    box: tuple[int, int, int, int]
    marks: Mapping[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """After ``step`` updates. ``results[reward][task]``, with ``overall`` as each reward's last task."""

    step: int
    outcomes: tuple[Outcome, ...]
    tiles: tuple[Tile, ...] = ()
    results: Mapping[str, Mapping[str, TaskResult]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", summarise(self.outcomes))

    def of(self, tile: Tile) -> list[Outcome]:
        """Every reward's verdict on the picture of ``tile``."""
        return [one for one in self.outcomes if (one.prompt_id, one.seed) == (tile.prompt_id, tile.seed)]

    def flat(self) -> dict[str, float]:
        """``eval/<reward>/<task>`` means for the log, and ``eval_graded/...`` where a reward is finer than that."""
        [whole] = with_graded([self])
        means = {}
        for reward, tasks in whole.results.items():
            kind = "eval_graded" if reward.endswith(GRADED) else "eval"
            for task, result in tasks.items():
                if result.estimate is not None:
                    means[f"{kind}/{reward.removesuffix(GRADED)}/{task}"] = result.estimate.mean
        return means


@dataclass(frozen=True)
class Change:
    """After minus before on the same prompts and seeds; ``n`` pairs, of which ``gained`` and ``lost`` differ.

    ``p``: how likely a difference this large is between two that are the same.
    """

    n: int
    gained: int
    lost: int
    difference: Estimate
    p: float

    @property
    def direction(self) -> Literal["up", "down", ""]:
        """Empty where the interval of the difference includes 0."""
        low, high = self.difference.interval or (0.0, 0.0)
        return "up" if low > 0 else "down" if high < 0 else ""


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, TaskResult]]:
    """Per reward and task, in order of appearance, then ``overall`` = mean over the tasks that have scores."""
    found: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.reward, {}).setdefault(outcome.task, []).append(outcome)
    results: dict[str, dict[str, TaskResult]] = {}
    for reward, tasks in found.items():
        results[reward] = {task: _task_result(members) for task, members in tasks.items()}
        parts = [result.estimate for result in results[reward].values() if result.estimate is not None]
        n = sum(result.n for result in results[reward].values())
        failed = sum(result.failed for result in results[reward].values())
        results[reward][OVERALL] = TaskResult(n, failed, macro_mean(parts) if parts else None)
    return results


def with_graded(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """With a further reward ``<name>, graded`` for each whose own values say more somewhere than its pass or fail."""
    finer = {
        one.reward
        for evaluation in evaluations
        for one in evaluation.outcomes
        if one.graded is not None and one.graded != one.value
    }
    return [_with_graded(evaluation, finer) for evaluation in evaluations]


def _with_graded(evaluation: Evaluation, finer: Collection[str]) -> Evaluation:
    further = [
        replace(one, reward=one.reward + GRADED, value=one.graded) for one in evaluation.outcomes if one.reward in finer
    ]
    return replace(evaluation, outcomes=(*evaluation.outcomes, *further)) if further else evaluation


def compare(before: Evaluation, after: Evaluation) -> dict[str, dict[str, Change]]:
    """Per reward and task (and ``overall``), over the samples scored in both: same prompt, same seed.

    Raises UserError if the two have no such sample.
    """
    old = {(one.reward, one.prompt_id, one.seed): one.value for one in before.outcomes if one.value is not None}
    pairs: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in after.outcomes:
        value = old.get((one.reward, one.prompt_id, one.seed))
        if value is not None and one.value is not None:
            by_prompt = pairs.setdefault(one.reward, {}).setdefault(one.task, {})
            by_prompt.setdefault(one.prompt_id, []).append(one.value - value)
    if not pairs:
        raise UserError(
            f"evaluations {before.step} and {after.step} share no prompt and seed: "
            "evaluate both with the same data.eval and eval.seed"
        )
    return {reward: _changes(tasks) for reward, tasks in pairs.items()}


def save(evaluation: Evaluation, run_folder: Path) -> Path:
    path = run_folder / f"evaluation-{evaluation.step}.json"
    write_atomically(path, json.dumps(asdict(evaluation), indent=1) + "\n")
    return path


def load(path: Path) -> Evaluation:
    """Raises UserError if the file is missing or was not written by ``save``."""
    found = read_json(path)
    try:
        outcomes = tuple(Outcome(**one) for one in found["outcomes"])
        tiles = tuple(Tile(**{**one, "box": tuple(one["box"])}) for one in found["tiles"])
        return Evaluation(found["step"], outcomes, tiles)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not an evaluation ({error}); run the evaluation again") from error


def load_all(run_folder: Path) -> list[Evaluation]:
    """Every evaluation of a run, by step."""
    paths = run_folder.glob("evaluation-*.json")
    return sorted((load(path) for path in paths), key=lambda evaluation: evaluation.step)


def grid_path(run_folder: Path, step: int) -> Path:
    return run_folder / f"evaluation-{step}.png"


def mark(value: float | None) -> str:
    """``pass``, ``fail``, the number itself, or ``?`` for a failure."""
    if value is None or math.isnan(value):
        return "?"
    return {1.0: "pass", 0.0: "fail"}.get(value, f"{value:.2f}")


def _task_result(members: Sequence[Outcome]) -> TaskResult:
    by_prompt: dict[str, list[float]] = {}
    for one in members:
        if one.value is not None:
            by_prompt.setdefault(one.prompt_id, []).append(one.value)
    scored = sum(map(len, by_prompt.values()))
    estimate = mean_over_prompts(list(by_prompt.values())) if by_prompt else None
    return TaskResult(scored, len(members) - scored, estimate)


def _changes(tasks: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Change]:
    per_prompt = {task: [float(np.mean(values)) for values in prompts.values()] for task, prompts in tasks.items()}
    singles = {task: [value for values in prompts.values() for value in values] for task, prompts in tasks.items()}
    changes = {task: _change(singles[task], {task: per_prompt[task]}) for task in tasks}
    everything = [value for values in singles.values() for value in values]
    changes[OVERALL] = _change(everything, per_prompt)
    return changes


def _change(differences: Sequence[float], per_prompt: Mapping[str, Sequence[float]]) -> Change:
    gained, lost = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    return Change(len(differences), gained, lost, paired_bootstrap(per_prompt), sign_flip(per_prompt))
