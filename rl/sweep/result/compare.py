"""Arms against each other on the same held-out prompts and seeds: scores, paired differences, corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rl.evaluation.results import OVERALL, Evaluation
from rl.evaluation.seeds import PairedDifference, Table, bootstrap_over_seeds, crossed_difference, holm
from rl.evaluation.statistics import Estimate
from rl.sweep.result.gather import MadeArm, MadeRun, rewards_of, tasks_of

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Spread:
    """Over seeds: mean with bootstrap interval, and the extremes."""

    estimate: Estimate
    lowest: float
    highest: float


@dataclass(frozen=True)
class Versus:
    """Minus the baseline's; ``holm``: its p-value corrected for all that are asked at once."""

    difference: PairedDifference
    holm: float | None = None

    @property
    def significant(self) -> bool:
        return self.holm is not None and self.holm < SIGNIFICANT

    @property
    def suggestive(self) -> bool:
        """Alone it would be significant; among so many it may be chance."""
        return not self.significant and self.difference.p is not None and self.difference.p < SIGNIFICANT


@dataclass(frozen=True)
class SweepRow:
    """One task of one reward in one arm."""

    arm: str
    reward: str
    task: str
    seeds: int
    before: Spread
    after: Spread
    gain: Spread
    versus: Versus | None = None
    """None for the baseline, and where no seed and no prompt is shared with it."""


def summarise_arms(arms: Sequence[MadeArm], baseline: str) -> list[SweepRow]:
    """Reward by reward and arm by arm, ``overall`` last. Holm's correction is over the overall scores of all arms and
    rewards, and apart from them over all tasks."""
    base = next((arm for arm in arms if arm.name == baseline), None)
    rows = []
    for reward in rewards_of(arms):
        for arm in arms:
            differences = against(arm, base, reward) if base is not None and arm is not base else {}
            for task in tasks_of(arms, reward):
                if (row := _row(arm, reward, task, differences.get(task))) is not None:
                    rows.append(row)
    return corrected(rows)


def _row(arm: MadeArm, reward: str, task: str, difference: PairedDifference | None) -> SweepRow | None:
    pairs = []
    for run in arm.runs:
        old, new = (one.results.get(reward, {}).get(task) for one in (run.before, run.after))
        if old is not None and new is not None and old.estimate is not None and new.estimate is not None:
            pairs.append((old.estimate.mean, new.estimate.mean))
    if not pairs:
        return None
    before, after = zip(*pairs, strict=True)
    gain = [new - old for old, new in pairs]
    versus = None if difference is None else Versus(difference)
    return SweepRow(arm.name, reward, task, len(pairs), spread(before), spread(after), spread(gain), versus)


def spread(values: Sequence[float]) -> Spread:
    return Spread(bootstrap_over_seeds(values), min(values), max(values))


def corrected(rows: Sequence[SweepRow]) -> list[SweepRow]:
    found = list(rows)
    for overall in (True, False):
        places = [
            place
            for place, row in enumerate(rows)
            if (row.task == OVERALL) == overall and row.versus is not None and row.versus.difference.p is not None
        ]
        p_values = [versus.difference.p or 0.0 for place in places if (versus := rows[place].versus) is not None]
        for place, value in zip(places, holm(p_values), strict=True):
            if (versus := rows[place].versus) is not None:
                found[place] = replace(rows[place], versus=replace(versus, holm=value))
    return found


def against(arm: MadeArm, base: MadeArm, reward: str) -> dict[str, PairedDifference]:
    """Task -> this arm after training minus the other one, on the seeds and prompts of both."""
    theirs = {run.seed: run for run in base.runs}
    return differences([(run.after, theirs[run.seed].after) for run in arm.runs if run.seed in theirs], reward)


def since_start(runs: Sequence[MadeRun], reward: str) -> dict[str, PairedDifference]:
    """Task -> after training minus before."""
    return differences([(run.after, run.before) for run in runs], reward)


def differences(pairs: Sequence[tuple[Evaluation, Evaluation]], reward: str) -> dict[str, PairedDifference]:
    """``pairs``: one per seed of the run; of each the first minus the second."""
    tables = paired_tables(pairs, reward)
    if not tables:
        return {}
    share = all(0.0 <= one.value <= 1.0 for pair in pairs for side in pair for one in _scored(side, reward))
    found = {task: crossed_difference({task: table}, share=share) for task, table in tables.items()}
    return found | {OVERALL: crossed_difference(tables, share=share)}


def paired_tables(pairs: Sequence[tuple[Evaluation, Evaluation]], reward: str) -> dict[str, Table]:
    """Task -> (seeds, prompts) of differences, over the prompts that are scored on both sides for every seed."""
    by_seed = [_by_prompt(ours, theirs, reward) for ours, theirs in pairs]
    tables: dict[str, Table] = {}
    for task in by_seed[0] if by_seed else ():
        shared = [prompt for prompt in by_seed[0][task] if all(prompt in one.get(task, {}) for one in by_seed)]
        if shared:
            tables[task] = np.array([[np.mean(one[task][prompt]) for prompt in shared] for one in by_seed])
    return tables


def _by_prompt(ours: Evaluation, theirs: Evaluation, reward: str) -> Mapping[str, Mapping[str, list[float]]]:
    other = {(one.prompt_id, one.seed): one.value for one in _scored(theirs, reward)}
    found: dict[str, dict[str, list[float]]] = {}
    for one in _scored(ours, reward):
        value = other.get((one.prompt_id, one.seed))
        if value is not None:
            found.setdefault(one.task, {}).setdefault(one.prompt_id, []).append(one.value - value)
    return found


@dataclass(frozen=True)
class ScoredOutcome:
    """An outcome with a value."""

    task: str
    prompt_id: str
    seed: int
    value: float


def _scored(evaluation: Evaluation, reward: str) -> list[ScoredOutcome]:
    return [
        ScoredOutcome(one.task, one.prompt_id, one.seed, one.value)
        for one in evaluation.outcomes
        if one.reward == reward and one.value is not None
    ]
