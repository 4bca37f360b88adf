from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from rewards.base import LARGEST, describe_exception, normalise
from rewards.combine import (
    Combination,
    FailureBudget,
    TooManyFailures,
    combine,
    failure_counts,
    gdpo,
    mean,
    product,
    sum_,
)
from rl.config.schema import Role
from rl.types import Prompt, Sample, Score, UserError

SAMPLES = [Sample(f"s{i}", "g", Prompt("p", "x"), np.zeros((2, 2, 3), np.uint8)) for i in range(3)]
BEYOND = " for the prompt 'p'; a reward must lie within 1e+12, so divide it"
ROLES: dict[str, Role] = {"a": "train", "b": "train", "m": "monitor"}


def test_good_answers() -> None:
    given = [1, None, Score(0.5, details={"n": np.float32(2), "t": (1, np.arange(2)), "o": object}, passed=True)]
    one, none, full = normalise(given, SAMPLES)
    assert (one, none) == (Score(1.0), Score(None))
    assert type(one.value) is float
    assert (full.value, full.passed) == (0.5, 1.0)
    assert full.details == {"n": 2.0, "t": [1, [0, 1]], "o": "<class 'object'>"}
    odd = {
        "objects": np.array([1, None, {2}], object),
        "complex": 1j,
        "numbers": np.array([1j]),
        "when": np.datetime64("2026-11-25"),
    }
    assert normalise([Score(1.0, details=odd)], SAMPLES[:1])[0].details == {
        "objects": [1, None, "{2}"],
        "complex": "1j",
        "numbers": ["1j"],
        "when": "2026-11-25",
    }
    assert [score.value for score in normalise(np.array([0.25, 1, 2]), SAMPLES)] == [0.25, 1.0, 2.0]
    assert [score.value for score in normalise([np.float32(0.5), np.array(2), True], SAMPLES)] == [0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([1.0], "returned 1 values for 3 samples"),
        (None, "returned None instead of a list of 3 values"),
        (0.5, "returned float (0.5) instead of a list of 3 values"),
        ({"s0": 1.0}, "returned dict ({'s0': 1.0}) instead of a list of 3 values"),
        ("abc", "returned str ('abc') instead of a list of 3 values"),
        (["1.0"] * 3, "returned str ('1.0') where a number or None was expected"),
        ([[1.0]] * 3, "returned list ([1.0]) where a number or None was expected"),
        ([float("nan")] * 3, "returned nan for the prompt 'p'"),
        ([float("-inf")] * 3, "returned -inf for the prompt 'p'"),
        ([Score(float("inf"))] * 3, "returned inf for the prompt 'p'"),
        ([10**400] * 3, "returned inf for the prompt 'p'"),
        (np.float32([3e38] * 3), f"returned 3e+38{BEYOND}"),
        ([-1e300] * 3, f"returned -1e+300{BEYOND}"),
        ([Score(2e12, passed=True)] * 3, f"returned 2e+12{BEYOND}"),
        ([Fraction(10**13)] * 3, f"returned 1e+13{BEYOND}"),
        ([1j] * 3, "returned complex (1j) where a number or None was expected"),
        (np.array([1j] * 3), "returned complex (1j) where a number or None was expected"),
        (np.ones((3, 1)), "returned list ([1.0]) where a number or None was expected"),
        (np.float64(1.0), "returned float64 (np.float64(1.0)) instead of a list of 3 values"),
        ((value for value in (1.0, 2.0, 3.0)), None),
        ([Score("high")] * 3, "returned a Score whose value is str ('high')"),  # type: ignore[arg-type]
        ([Score(1.0, failure="no face")] * 3, "no face"),
        (
            [Score(1.0, passed=2)] * 3,
            "returned a Score whose `passed` is int (2); it must be True, False or in [0, 1]",
        ),
    ],
)
def test_bad_answers_are_failures_without_a_value(raw: object, reason: str | None) -> None:
    found = normalise(raw, SAMPLES)
    assert [score.value for score in found] == [None] * 3
    reason = reason or f"returned generator ({str(raw)[:37]}...) instead of a list of 3 values"
    assert [score.failure for score in found] == [reason] * 3


def test_the_largest_rewards_still_have_a_deviation_in_32_bits() -> None:
    values = [score.value for score in normalise([LARGEST, -LARGEST, np.float16(2)], SAMPLES)]
    assert values == [LARGEST, -LARGEST, 2.0]
    assert np.isfinite(np.float32(values).std())


def test_exceptions_are_described_in_one_line() -> None:
    try:
        raise KeyError("two\nlines")
    except KeyError as error:
        assert describe_exception(error).startswith("KeyError: 'two\\nlines' (test_base_and_combine.py:")


def test_the_mean_is_over_the_rewards_that_apply() -> None:
    by_reward = {
        "a": [Score(1.0), Score(None), Score(0.5), Score(None), Score(0.2)],
        "b": [Score(0.0), Score(0.25), Score(None, failure="died"), Score(None), Score(0.6)],
        "m": [Score(9.0), Score(None, failure="died"), Score(9.0), Score(9.0), Score(None, failure="died")],
    }
    weights = {"a": 3.0, "b": 1.0, "m": 5.0}
    scores = combine(by_reward, weights, ROLES, groups=["g"] * 5)
    # (3 * 1 + 1 * 0) / 4 ; b alone ; b failed ; nothing applies ; (3 * .2 + .6) / 4
    assert scores.valid_B.tolist() == [True, True, False, False, True]
    assert scores.total_B[scores.valid_B] == pytest.approx([0.75, 0.25, 0.3])
    assert scores.total_B.dtype == np.float32
    summed = combine(by_reward, weights, ROLES, groups=["g"] * 5, how=sum_)
    assert summed.total_B[summed.valid_B] == pytest.approx([3.0, 1.0, 1.2])
    assert summed.score_B.tolist() == scores.total_B.tolist()  # what is shown does not depend on the combination
    assert scores.by_reward is by_reward
    assert failure_counts(by_reward) == {"a": 0, "b": 1, "m": 2}


def test_a_penalty_has_a_negative_weight() -> None:
    scores = combine({"a": [Score(1.0)], "b": [Score(0.5)]}, {"a": 1.0, "b": -1.0}, ROLES, groups="g")
    assert scores.total_B.tolist() == [0.25]


def test_a_scale_maps_a_reward_before_it_is_combined() -> None:
    by_reward = {"a": [Score(19.0), Score(22.0)], "b": [Score(0.5), Score(None)]}
    scores = combine(by_reward, {"a": 1.0, "b": 1.0}, ROLES, groups="gg", scales={"a": (18.0, 23.0)})
    assert scores.total_B == pytest.approx([(0.2 + 0.5) / 2, 0.8])


def test_a_product_cannot_buy_one_reward_with_another() -> None:
    by_reward = {"a": [Score(1.0), Score(0.0), Score(0.25)], "b": [Score(0.5), Score(0.9), Score(None)]}
    scores = combine(by_reward, {"a": 0.5, "b": 2.0}, ROLES, groups="ggg", how=product)
    assert scores.total_B == pytest.approx([0.25, 0.0, 0.5])  # 1 * .5^2, 0, sqrt(.25)
    assert scores.score_B == pytest.approx([(0.5 + 1.0) / 2.5, 1.8 / 2.5, 0.25])


@pytest.mark.parametrize(("value", "weight"), [(-0.1, 1.0), (0.5, -1.0)])
def test_a_product_needs_values_and_weights_that_it_can_multiply(value: float, weight: float) -> None:
    with pytest.raises(UserError) as caught:
        combine({"a": [Score(value)]}, {"a": weight}, ROLES, groups="g", how=product)
    assert str(caught.value) == (
        "combine.use: 'product' needs weights above 0 and values not below 0; "
        "give the reward a `scale` that maps it to [0, 1], or use 'mean'"
    )


@pytest.mark.parametrize(
    ("weight", "scale", "how", "said"),
    [
        (
            1.0,
            (0.0, 1e-300),
            mean,
            "the training reward of the prompt 'q' is 2e+300, and it must lie within 1e+12; loo",
        ),
        (1e13, None, sum_, "the training reward of the prompt 'q' is 2e+13, and it must lie within 1e+12; look at"),
        (1e308, (0.0, 1e-9), mean, "the training reward of the prompt 'q' is inf, and it must lie within 1e+12; look"),
        (300.0, (0.0, 1e-3), product, "the training reward of the prompt 'q' is inf, and it must lie within 1e+12; lo"),
    ],
)
def test_a_combination_beyond_all_measure_names_the_prompt(
    weight: float, scale: tuple[float, float] | None, how: Combination, said: str
) -> None:
    scales = {"a": scale} if scale else None
    with pytest.raises(UserError, match=re.escape(said)):
        combine({"a": [Score(0.0), Score(2.0)]}, {"a": weight}, ROLES, groups=["p", "q"], how=how, scales=scales)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "combine.use: it returned object of shape (); it must return one number for each of the 2 samples"),
        ([1.0], "combine.use: it returned float64 of shape (1,); it must return one number for each of the 2 samples"),
        ([[1.0, 2.0]], "combine.use: it returned float64 of shape (1, 2); it must return one number for each of the 2"),
        (["a", "b"], "combine.use: it returned <U1 of shape (2,); it must return one number for each of the 2 samples"),
        ([0.0, float("nan")], "combine: the training reward of the prompt 'q' is nan, and it must lie within 1e+12"),
    ],
)
def test_a_combination_of_ones_own_that_answers_something_else(answer: Any, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        combine({"a": [Score(0.0), Score(2.0)]}, {"a": 1.0}, ROLES, groups=["p", "q"], how=lambda *_: answer)


def test_gdpo_gives_every_reward_its_own_scale_inside_each_group() -> None:
    by_reward = {
        "a": [Score(0.0), Score(10.0), Score(3.0), Score(5.0)],
        "b": [Score(0.2), Score(0.1), Score(0.7), Score(None)],
    }
    scores = combine(by_reward, {"a": 1.0, "b": 2.0}, ROLES, groups="ggpp", how=partial(gdpo, eps=0.0))
    # of two values, each lies 1 / sqrt(2) sample standard deviations from their mean; alone in its group, b adds 0
    unit = 0.5**0.5
    assert scores.total_B == pytest.approx([-unit + 2 * unit, unit - 2 * unit, -unit, unit])
    same = combine({"a": [Score(1.0), Score(1.0)]}, {"a": 1.0}, ROLES, groups="gg", how=gdpo)
    assert same.total_B.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "roles", "message"),
    [
        (
            {"a": 1.0},
            {"a": "monitor"},
            "rewards: no reward has role `train`, so there is nothing to learn; set `role: train` on one",
        ),
        ({"a": 0.0}, ROLES, "rewards.a.weight is 0: give it a finite weight other than 0, or set `role: monitor`"),
        ({"a": float("nan")}, ROLES, "rewards.a.weight is nan: give it a finite weight other than 0, or set `role: m"),
    ],
)
def test_weights_that_cannot_train(weights: dict[str, float], roles: dict[str, Role], message: str) -> None:
    with pytest.raises(UserError) as caught:
        combine({"a": [Score(1.0)]}, weights, roles, groups="g")
    assert str(caught.value).startswith(message)


def test_the_failure_budget_counts_what_applies() -> None:
    failed = [Score(None, failure=f"reason {i}") for i in range(5)]
    budget = FailureBudget(0.5)
    budget.check({"a": [*failed[:2], Score(0.0), Score(0.0)], "m": failed}, ROLES)  # half, and a monitor
    with pytest.raises(TooManyFailures) as caught:
        budget.check({"a": [*failed, *failed[:1], Score(1.0), Score(1.0), Score(None), Score(None)]}, ROLES)
    assert str(caught.value) == (
        "rewards.a failed on 6 of 8 samples (reward_pool.max_failed_fraction is 0.5): "
        "reason 0; reason 1; reason 2; repair the reward, or raise that fraction if these failures are harmless"
    )
    with pytest.raises(TooManyFailures):
        FailureBudget(0.0).check({"a": [failed[0], *[Score(1.0)] * 99]}, ROLES)
    FailureBudget(0.0).check({"a": [Score(None)] * 3}, ROLES)


def test_base_imports_nothing_heavy() -> None:
    code = (
        "import sys, rewards.base, rewards.combine, rewards.pool; "
        "sys.exit(', '.join({'torch', 'paddle', 'vllm', 'ray', 'deepspeed', 'PIL'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
