from __future__ import annotations

import math

import numpy as np
import pytest

from rl.evaluation.seeds import bootstrap_over_seeds, crossed_difference, difference_over_seeds, holm
from rl.evaluation.statistics import Estimate


def test_the_bootstrap_of_three_seeds_is_their_range_and_that_of_more_is_narrower() -> None:
    # all three resampled values are the lowest one in 1 of 27 draws, more than the 2.5 % that are cut off
    found = bootstrap_over_seeds([0.90, 0.80, 1.0])
    assert (found.mean, found.low, found.high) == pytest.approx((0.9, 0.8, 1.0))
    # of 4 seeds, one of which is 1: the mean is binomial(4, 1/4) / 4, of which P(X <= 2) = .949, P(X <= 3) = .996
    found = bootstrap_over_seeds([0.0, 0.0, 0.0, 1.0])
    assert (found.low, found.high) == (0.0, 0.75)
    assert bootstrap_over_seeds([0.5]) == Estimate(0.5, None, None)
    assert bootstrap_over_seeds([1.0, 1.0, 0.99]).high == 1.0  # never above what a score can be


def test_a_difference_per_seed_is_students_paired_t() -> None:
    # mean 2, standard error 1 / sqrt(3): t = 3.4641 with 2 degrees of freedom, p = 1 - t / sqrt(t^2 + 2) = 0.0742
    found = difference_over_seeds([1.0, 2.0, 3.0])
    assert found.p == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(14), abs=1e-9) == pytest.approx(0.0742, abs=1e-4)
    assert found.estimate.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert difference_over_seeds([0.3]).p is None
    same = difference_over_seeds([0.5, 0.5, 0.5])
    assert (same.p, same.estimate) == (0.25, Estimate(0.5, 0.5, 0.5))  # three coins that fall alike
    assert difference_over_seeds([0.0, 0.0]).p == 1.0


def test_seeds_and_prompts_are_both_random() -> None:
    # two seeds (rows) on three prompts. Means of seeds 1/3, 2/3: variance 1/18, of their mean 1/36.
    # Means of prompts 1, 1/2, 0: variance 1/4, of their mean 1/12. Left over: residuals +-1/6, +-1/3, +-1/6, whose
    # squares sum to 1/3, over 2 degrees of freedom 1/6, of the mean of six 1/36.
    table = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    found = crossed_difference({"colors": table}, share=False)
    variance = 1 / 36 + 1 / 12 - 1 / 36
    freedom = variance**2 / ((1 / 36) ** 2 / 1 + (1 / 12) ** 2 / 2)
    assert found.estimate.mean == 0.5
    half = (found.estimate.high or 0) - 0.5
    from scipy.special import stdtr, stdtrit

    assert half == pytest.approx(float(stdtrit(freedom, 0.975)) * math.sqrt(variance))
    assert found.p == pytest.approx(2 * float(stdtr(freedom, -0.5 / math.sqrt(variance))))
    assert (found.seeds, found.prompts) == (2, 3)
    cut = crossed_difference({"colors": table}, share=True).estimate
    assert cut.low is not None and cut.low >= -1 and cut.high == 1.0  # a difference of shares is at most 1


def test_tasks_count_alike_whatever_their_size() -> None:
    tables = {"small": np.ones((2, 2)), "large": np.zeros((2, 50))}
    assert crossed_difference(tables, share=True).estimate.mean == 0.5


def test_one_seed_tells_of_prompts_alone_and_one_prompt_of_nothing() -> None:
    found = crossed_difference({"a": np.array([[1.0, 0.0, 1.0, 0.0]])}, share=True)
    # mean 1/2, variance of its mean 1/12, t = 1.7321 with 3 degrees of freedom
    assert found.p == pytest.approx(0.1817, abs=1e-4)
    assert crossed_difference({"a": np.array([[1.0]])}, share=True).p is None


def test_two_seeds_of_the_same_arm_are_not_told_apart() -> None:
    """Seeds differ by a tenth; a test over the 180 prompts alone would call that significant most of the time."""
    draw, found = np.random.default_rng(0), 0
    for _ in range(400):
        seeds = draw.normal(0, 0.1, 3)
        tables = {}
        for task in ("a", "b", "c"):
            base = draw.uniform(0.2, 0.9, 60)
            ours = draw.random((3, 60)) < np.clip(base + seeds[:, None], 0, 1)
            tables[task] = ours.astype(float) - (draw.random((3, 60)) < base)
        p = crossed_difference(tables, share=True).p
        found += p is not None and p < 0.05
    assert found / 400 < 0.09


def test_holm_by_hand() -> None:
    # in order .005 x 4, .01 x 3, .03 x 2, .04 x 1, each at least the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
