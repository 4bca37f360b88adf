"""What a reward's variance inside a prompt comes from, where each of G token sequences is painted k times.

Pure functions of tables: y[i, j] is the reward of token sequence i in its render j, one (G, k) table per prompt.
``crossed``: render j of every sequence has the same noise (``render.seed: group``), y_ij = mu + a_i + c_j + d_ij.
``nested``: every picture has noise of its own (``render.seed: sample``), y_ij = mu + a_i + b_ij.
The language model can learn from a, the decoder from the rest. Estimates are those of a random-effects analysis of
variance (method of moments), pooled over prompts as sums of squares over sums of degrees of freedom: unbiased, so a
share that is nothing comes out as often below zero as above, and is told so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl.evaluation.statistics import Estimate
from rl.types import RenderScores

Table = NDArray[np.float64]
MOST_RENDERS = 64


@dataclass(frozen=True)
class VarianceSplit:
    """Variance components; ``interaction`` is None in a nested design, where ``noise`` holds it too."""

    tokens: float
    noise: float
    interaction: float | None
    prompts: int
    decoder_share: Estimate | None
    """(noise + interaction) / all, with an interval by resampling prompts; None where nothing varies."""

    @property
    def total(self) -> float:
        return self.tokens + self.noise + (self.interaction or 0.0)

    def between(self, *, shared_noise: bool) -> float:
        """What is left of the decoder's noise in the comparison of two sequences, per render: the main effect of noise
        that they share cancels out. A nested design cannot tell it apart."""
        if self.interaction is None:
            return self.noise
        return self.interaction + (0.0 if shared_noise else max(self.noise, 0.0))


def crossed(tables: Sequence[Table], resamples: int = 2000) -> VarianceSplit | None:
    """Two-way tables without replication. None if no prompt has two sequences and two renders."""
    sums = np.array([_two_way(table) for table in tables if min(table.shape) > 1])
    if not len(sums):
        return None
    renders = next(table.shape[1] for table in tables if min(table.shape) > 1)
    found = _crossed(sums.sum(0), renders)
    drawn = _resampled(sums, resamples)
    shares = [_share(*_crossed(row, renders)) for row in drawn]
    return VarianceSplit(*found, len(sums), _estimate(_share(*found), shares))


def nested(tables: Sequence[Table], resamples: int = 2000) -> VarianceSplit | None:
    """One-way tables. None if no prompt has two sequences and two renders."""
    sums = np.array([_one_way(table) for table in tables if min(table.shape) > 1])
    if not len(sums):
        return None
    renders = next(table.shape[1] for table in tables if min(table.shape) > 1)
    found = _nested(sums.sum(0), renders)
    shares = [_share(*_nested(row, renders)) for row in _resampled(sums, resamples)]
    return VarianceSplit(found[0], found[1], None, len(sums), _estimate(_share(*found), shares))


def best_renders(split: VarianceSplit, sequence_cost: float, picture_cost: float, *, shared_noise: bool) -> int | None:
    """How many renders of a token sequence tell the language model most for a given cost: the k that minimises
    (sequence_cost + k picture_cost) (tokens + between / k), near sqrt(sequence_cost between / (picture_cost tokens)),
    with what ``between`` says of noise that a group shares or does not. None where tokens decide nothing.
    """
    if split.tokens <= 0:
        return None
    noise = max(split.between(shared_noise=shared_noise), 0.0)

    def cost(renders: int) -> float:
        return (sequence_cost + renders * picture_cost) * (split.tokens + noise / renders)

    return min(range(1, MOST_RENDERS + 1), key=cost)


def rank_correlation(tables: Sequence[Table], others: Sequence[Table]) -> float | None:
    """Spearman's correlation inside groups between two ways to score the same sequences, from -1 to 1.

    A group is a column of a table: the G sequences of a prompt in one render. Ranks (ties share theirs) are centred in
    each group and their products pooled over groups, so that a group without differences says nothing. None if all are
    such.
    """
    products = squares = others_squares = 0.0
    for table, other in zip(tables, others, strict=True):
        a, b = _centred_ranks(table), _centred_ranks(other)
        products += float((a * b).sum())
        squares += float((a * a).sum())
        others_squares += float((b * b).sum())
    if squares == 0 and others_squares == 0:
        return None
    return products / math.sqrt(squares * others_squares) if squares and others_squares else 0.0


def split_metrics(scores: RenderScores, group_size: int, *, shared_noise: bool) -> dict[str, float]:
    """``var/...`` of one step, of B samples (group-major) in K renders: the variance components with their sign, the
    decoder's share, and how many sequences have renders that don't all score alike. Empty where no sequence has two
    renders to compare. In groups of one there is no share inside a prompt, but ``noise``, and ``decoder_share_of_all``,
    in which what lies between prompts counts too.

    ``shared_noise``: render j of every sample of a group has the same noise.
    """
    total_BK = np.where(scores.valid_BK, scores.total_BK.astype(np.float64), np.nan)
    compared_BK = total_BK[scores.valid_BK.sum(1) > 1]
    if not len(compared_BK):
        return {}
    metrics = {"unlike_renders": float((np.nanmax(compared_BK, 1) > np.nanmin(compared_BK, 1)).mean())}
    if group_size == 1:
        return {f"var/{name}": value for name, value in (metrics | _of_groups_of_one(total_BK)).items()}
    (tables,) = complete(np.split(total_BK, len(total_BK) // group_size))
    split = crossed(tables, resamples=0) if shared_noise else nested(tables, resamples=0)
    if split is not None:
        metrics |= {"tokens": split.tokens, "noise": split.noise}
        metrics |= {} if split.interaction is None else {"interaction": split.interaction}
        metrics |= {} if split.decoder_share is None else {"decoder_share": split.decoder_share.mean}
    return {f"var/{name}": value for name, value in metrics.items()}


def _of_groups_of_one(total_BK: Table) -> dict[str, float]:
    compared_BK = total_BK[np.isfinite(total_BK).sum(1) > 1]
    apart_BK = compared_BK - np.nanmean(compared_BK, 1, keepdims=True)
    found = {"noise": float(np.nansum(apart_BK**2) / (np.isfinite(compared_BK).sum(1) - 1).sum())}
    split = nested(complete([total_BK])[0], resamples=0)
    if split is not None and split.decoder_share is not None:
        found["decoder_share_of_all"] = split.decoder_share.mean
    return found


def complete(tables: Sequence[Table], *others: Sequence[Table]) -> list[list[Table]]:
    """The same rows of all given tables of each prompt: token sequences whose every picture has a value, at least two;
    prompts without are left out."""
    kept: list[list[Table]] = [[] for _ in range(1 + len(others))]
    for together in zip(tables, *others, strict=True):
        rows = np.isfinite(np.stack(together)).all((0, 2))
        if rows.sum() > 1:
            for place, table in enumerate(together):
                kept[place].append(table[rows])
    return kept


def _two_way(table: Table) -> NDArray[np.float64]:
    """Sums of squares of rows, columns and what is left, each with its degrees of freedom; rows."""
    rows, columns = table.shape
    mean, row_means, column_means = table.mean(), table.mean(1), table.mean(0)
    left = table - row_means[:, None] - column_means[None] + mean
    return np.array([
        columns * ((row_means - mean) ** 2).sum(), rows - 1,
        rows * ((column_means - mean) ** 2).sum(), columns - 1,
        (left**2).sum(), (rows - 1) * (columns - 1),
        rows * (columns - 1),
    ])  # fmt: skip


def _crossed(sums: NDArray[np.float64], renders: int) -> tuple[float, float, float]:
    ms_rows, ms_columns, ms_left = sums[0] / sums[1], sums[2] / sums[3], sums[4] / sums[5]
    rows = sums[6] / sums[3]
    return float((ms_rows - ms_left) / renders), float((ms_columns - ms_left) / rows), float(ms_left)


def _one_way(table: Table) -> NDArray[np.float64]:
    rows, columns = table.shape
    row_means = table.mean(1)
    between = columns * ((row_means - table.mean()) ** 2).sum()
    return np.array([between, rows - 1, ((table - row_means[:, None]) ** 2).sum(), rows * (columns - 1)])


def _nested(sums: NDArray[np.float64], renders: int) -> tuple[float, float]:
    ms_between, ms_within = sums[0] / sums[1], sums[2] / sums[3]
    return float((ms_between - ms_within) / renders), float(ms_within)


def _share(tokens: float, *decoder: float) -> float:
    total = tokens + sum(decoder)
    return sum(decoder) / total if total > 1e-12 else math.nan


def _resampled(sums: NDArray[np.float64], resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """(resamples, ...) totals over prompts drawn with replacement; none for a single prompt."""
    if len(sums) < 2:
        return np.empty((0, sums.shape[1]))
    picks = np.random.default_rng(seed).integers(0, len(sums), size=(resamples, len(sums)))
    totals: NDArray[np.float64] = sums[picks].sum(1)
    return totals


def _estimate(share: float, drawn: Sequence[float]) -> Estimate | None:
    if math.isnan(share):
        return None
    usable = [value for value in drawn if not math.isnan(value)]
    if not usable:
        return Estimate(share, None, None)
    low, high = np.percentile(usable, [2.5, 97.5])
    return Estimate(share, float(low), float(high))


def _centred_ranks(table: Table) -> Table:
    """Of each column: how many are smaller, half of those that are equal, minus its mean."""
    ranks = (table[:, None] > table[None]).sum(1) + 0.5 * (table[:, None] == table[None]).sum(1)
    centred: Table = ranks - ranks.mean(0)
    return centred
