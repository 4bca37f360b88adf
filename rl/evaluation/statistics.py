"""Intervals for evaluations and sweeps: pure functions, 95 % throughout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit  # and not scipy.stats, which takes half a second to import


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; ``low`` and ``high`` are None where one value alone allows no interval."""

    mean: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


def wilson(passed: int, n: int) -> Estimate:
    """Wilson (1927) score interval for ``passed`` of ``n``, sensible also at 0 and n."""
    if not 0 <= passed <= n or n == 0:
        raise ValueError(f"{passed} passed of {n} is no proportion")
    return _wilson_of_share(passed / n, n)


def t_interval(values: Sequence[float]) -> Estimate:
    """Mean and Student's t interval of a few values, such as one per seed."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2:
        return Estimate(mean, None, None)
    half = float(stdtrit(array.size - 1, 0.975) * array.std(ddof=1) / math.sqrt(array.size))
    return Estimate(mean, mean - half, mean + half)


def share_interval(values: Sequence[float]) -> Estimate:
    """Mean of values from 0 to 1. Student's interval leaves that range where the mean is near an end of it, so this is
    Wilson's, of as many passes and failures as have the variance that is seen (Kish 1965), with Student's quantile in
    place of the normal one: the same as Student's where that is narrow, and never below 0 or above 1."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2:
        return Estimate(mean, None, None)
    variance = float(array.var(ddof=1)) / array.size
    if variance <= 1e-18:
        return Estimate(mean, mean, mean)
    return _wilson_of_share(mean, mean * (1 - mean) / variance, float(stdtrit(array.size - 1, 0.975)))


def mean_of(values: Sequence[float]) -> Estimate:
    """Wilson where every value is 0 or 1, ``share_interval`` where all lie between, Student's t otherwise."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson(int(sum(values)), len(values))
    return share_interval(values) if all(0.0 <= value <= 1.0 for value in values) else t_interval(values)


def mean_over_prompts(prompts: Sequence[Sequence[float]]) -> Estimate:
    """Mean of the prompts' means, where a prompt may have several samples: those are alike, and count for less.

    ``mean_of`` for one sample each. Else the same of the prompts' means, and where every value is 0 or 1 Wilson with
    the effective number of samples (Kish 1965): as many independent ones have the variance that is seen between
    prompts; never more than the samples, never fewer than the prompts.
    """
    if all(len(values) == 1 for values in prompts):
        return mean_of([values[0] for values in prompts])
    means = np.array([np.mean(values) for values in prompts])
    if any(value not in (0.0, 1.0) for values in prompts for value in values):
        within = all(0.0 <= value <= 1.0 for values in prompts for value in values)
        return share_interval(means.tolist()) if within else t_interval(means.tolist())
    share, samples = float(means.mean()), sum(map(len, prompts))
    variance = float(means.var(ddof=1)) / len(prompts) if len(prompts) > 1 else 0.0
    effective = share * (1 - share) / variance if variance else 0.0
    return _wilson_of_share(share, min(max(effective, len(prompts)), samples))


def _wilson_of_share(share: float, n: float, z: float = float(ndtri(0.975))) -> Estimate:
    """Wilson (1927) for a number of samples that need not be whole; ``z``: the quantile."""
    denominator = 2 * (n + z**2)
    centre = (2 * n * share + z**2) / denominator
    half = z / denominator * math.sqrt(4 * n * share * (1 - share) + z**2)
    return Estimate(share, 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half)


def macro_mean(parts: Sequence[Estimate]) -> Estimate:
    """Mean of K independent means, every one weighing the same, as GenEval's overall score.

    The interval puts the parts' own intervals together (MOVER, Zou & Donner 2008):
    ``low = mean - sqrt(sum((mean_k - low_k)^2)) / K``, and likewise above.
    """
    count = len(parts)
    mean = sum(part.mean for part in parts) / count
    below = [part.mean - part.low for part in parts if part.low is not None]
    above = [part.high - part.mean for part in parts if part.high is not None]
    if len(below) < count or len(above) < count:
        return Estimate(mean, None, None)
    return Estimate(mean, mean - math.hypot(*below) / count, mean + math.hypot(*above) / count)


def paired_bootstrap(differences: Mapping[str, Sequence[float]], resamples: int = 4000, seed: int = 0) -> Estimate:
    """Mean over tasks of each task's mean difference, with a percentile interval.

    ``differences[task]`` holds after - before, one number per prompt (the unit that is resampled, within its task).
    """
    generator = np.random.default_rng(seed)
    drawn, means = np.zeros(resamples), []
    for values in differences.values():
        array = np.asarray(values, dtype=np.float64)
        picks = generator.integers(0, array.size, size=(resamples, array.size))
        drawn += array[picks].mean(axis=1) / len(differences)
        means.append(float(array.mean()))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(sum(means) / len(means), float(low), float(high))


def sign_flip(differences: Mapping[str, Sequence[float]], resamples: int = 4000, seed: int = 0) -> float:
    """Two-sided p-value of the mean over tasks of each task's mean difference: Fisher's (1935) randomisation test.

    Were the two the same, after - before of a prompt would be as likely as before - after, so signs are drawn at
    random. ``differences`` as in :func:`paired_bootstrap`. The smallest value is 1 / (resamples + 1).
    """
    generator = np.random.default_rng(seed)
    drawn, observed = np.zeros(resamples), 0.0
    for values in differences.values():
        array = np.asarray(values, dtype=np.float64) / (len(values) * len(differences))
        observed += float(array.sum())
        array = array[array != 0]
        signs = generator.integers(0, 2, size=(resamples, array.size), dtype=np.int8) * 2 - 1
        drawn += signs @ array
    as_far = np.abs(drawn) >= abs(observed) - 1e-12
    return float((as_far.sum() + 1) / (resamples + 1))
