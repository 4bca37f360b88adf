"""Several seeds of a run: the interval of their mean, a paired difference of two arms, and Holm's correction.

Pure functions. Two arms that are evaluated on the same prompts differ by chance for two reasons: another seed would
have trained another policy, and other prompts would have been other questions. A test that knows only the prompts
finds two seeds of the same arm "significantly" different; so both are random here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # and not scipy.stats, which takes half a second to import

from rl.evaluation.statistics import Estimate

Table = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference with its 95 % interval and two-sided p-value; ``seeds`` and ``prompts`` it was seen on."""

    estimate: Estimate
    p: float | None
    seeds: int
    prompts: int


def bootstrap_over_seeds(values: Sequence[float], resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean and percentile bootstrap interval (Efron 1979) of one value per seed.

    It cannot leave the range of the values. With three seeds it is that range; the mean of more varies less.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2:
        return Estimate(mean, None, None)
    picks = np.random.default_rng(seed).integers(0, array.size, size=(resamples, array.size))
    low, high = np.percentile(array[picks].mean(axis=1), [2.5, 97.5])
    return Estimate(mean, float(low), float(high))


def difference_over_seeds(values: Sequence[float]) -> PairedDifference:
    """Of one difference per seed: Student's paired t-test. One seed alone has neither interval nor p-value."""
    array = np.asarray(values, dtype=np.float64)
    mean, count = float(array.mean()), int(array.size)
    if count < 2:
        return PairedDifference(Estimate(mean, None, None), None, count, 0)
    return _tested(mean, float(array.var(ddof=1)) / count, count - 1.0, count, 0)


def crossed_difference(tables: Mapping[str, Table], *, share: bool) -> PairedDifference:
    """The mean over tasks of each task's mean difference, seeds and prompts both random.

    ``tables[task][s, p]``: one arm minus the other, for the run's seed s on prompt p; the same seeds in every task.
    The variance of the mean is that of the seeds' means plus that of the prompts' means, less what is left over of both
    and would count twice (quasi F'': Clark 1973), never less than either alone; degrees of freedom by Satterthwaite
    (1946). One seed alone says nothing of seeds: then only prompts are random. ``share``: differences of shares of
    passed samples, whose interval is cut at -1 and 1.
    """
    weight = 1 / len(tables)
    means = {task: table.mean() for task, table in tables.items()}
    mean = float(sum(means.values()) * weight)
    seeds, prompts = next(iter(tables.values())).shape[0], sum(table.shape[1] for table in tables.values())
    parts = [
        (float(table.mean(axis=0).var(ddof=1)) / table.shape[1] * weight**2, table.shape[1] - 1.0)
        for table in tables.values()
        if table.shape[1] > 1
    ]
    of_prompts = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts)
    of_seeds = 0.0
    if seeds > 1:
        of_seeds = float(sum(table.mean(axis=1) for table in tables.values()).var(ddof=1)) * weight**2 / seeds
        below += of_seeds**2 / (seeds - 1)
    twice = sum(_left_over(table) * weight**2 for table in tables.values())
    variance = max(of_seeds + of_prompts - twice, of_seeds, of_prompts)
    if prompts == len(tables) and seeds == 1:
        return PairedDifference(Estimate(mean, None, None), None, seeds, prompts)
    found = _tested(mean, variance, variance**2 / below if below else math.inf, seeds, prompts)
    return _cut(found) if share else found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: below a, the chance of any false finding among all of them is at most a."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = largest
    return corrected


def _left_over(table: Table) -> float:
    """The variance of the mean that neither seeds nor prompts explain; 0 where it cannot be told apart."""
    seeds, prompts = table.shape
    if seeds < 2 or prompts < 2:
        return 0.0
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return float((rest**2).sum()) / ((seeds - 1) * (prompts - 1)) / table.size


def _tested(mean: float, variance: float, freedom: float, seeds: int, prompts: int) -> PairedDifference:
    if variance <= 1e-18:  # every one the same: as unlikely as that many coins that fall alike
        p = 1.0 if abs(mean) < 1e-12 else min(1.0, 2.0 ** (1 - min(1000, max(seeds, prompts))))
        return PairedDifference(Estimate(mean, mean, mean), p, seeds, prompts)
    error = math.sqrt(variance)
    half = error * (1.959963984540054 if math.isinf(freedom) else float(stdtrit(freedom, 0.975)))
    p = 2 * float(stdtr(min(freedom, 1e9), -abs(mean) / error))
    return PairedDifference(Estimate(mean, mean - half, mean + half), p, seeds, prompts)


def _cut(found: PairedDifference) -> PairedDifference:
    if found.estimate.interval is None:
        return found
    low, high = found.estimate.interval
    cut = Estimate(found.estimate.mean, max(-1.0, low), min(1.0, high))
    return PairedDifference(cut, found.p, found.seeds, found.prompts)
