"""Advantages against numbers done by hand."""

from __future__ import annotations

import pytest
import torch

from rl.algorithm import advantages
from rl.types import UserError

REWARDS_PG = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 1.0, float("nan"), 2.0]])
VALID_PG = torch.tensor([[True, True, True, True], [True, True, False, True]])


def test_grpo_by_hand() -> None:
    # Group 0: mean .5, sample variance 4 * .25 / 3; group 1 without its invalid member: mean 2, sample std 1.
    first = 0.5 / ((1 / 3) ** 0.5 + 1e-4)
    second = 1 / (1 + 1e-4)
    expected = torch.tensor([[first, -first, -first, first], [second, -second, 0.0, 0.0]])
    torch.testing.assert_close(advantages.grpo(REWARDS_PG, VALID_PG), expected)


def test_dr_grpo_by_hand() -> None:
    expected = torch.tensor([[0.5, -0.5, -0.5, 0.5], [1.0, -1.0, 0.0, 0.0]])
    torch.testing.assert_close(advantages.dr_grpo(REWARDS_PG, VALID_PG), expected)


def test_rloo_by_hand() -> None:
    # Sample 0 of group 0: 1 - (0 + 0 + 1) / 3; sample 0 of group 1: 3 - (1 + 2) / 2.
    expected = torch.tensor([[2 / 3, -2 / 3, -2 / 3, 2 / 3], [1.5, -1.5, 0.0, 0.0]])
    torch.testing.assert_close(advantages.rloo(REWARDS_PG, VALID_PG), expected)


def test_max_rl_by_hand() -> None:
    # Group 0: mean .5; group 1: mean 2; a group without a success and one with a single success of four.
    expected = torch.tensor([[1.0, -1.0, -1.0, 1.0], [0.5, -0.5, 0.0, 0.0]])
    torch.testing.assert_close(advantages.max_rl(REWARDS_PG, VALID_PG), expected)
    rare_PG = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = advantages.max_rl(rare_PG, torch.ones_like(rare_PG, dtype=torch.bool))
    assert found.tolist() == [[0.0] * 4, [3.0, -1.0, -1.0, -1.0]]


def test_max_rl_is_the_mean_score_of_the_successes() -> None:
    """Theorem 2 with its control variate: sum_i A_i S_i / n = mean of S over successes - mean of S over all."""
    rewards_G, scores_G = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]), torch.tensor([0.3, -1.0, 2.0, 0.5, 0.1])
    found_G = advantages.max_rl(rewards_G[None], torch.ones(1, 5, dtype=torch.bool))[0]
    wanted = scores_G[rewards_G > 0].mean() - scores_G.mean()
    torch.testing.assert_close((found_G * scores_G).mean(), wanted)


def test_max_rl_refuses_a_reward_below_zero() -> None:
    with pytest.raises(UserError, match=r"advantage: max_rl divides .* must be 0 or more, and one is -0.5; give the"):
        advantages.max_rl(torch.tensor([[1.0, -0.5]]), torch.ones(1, 2, dtype=torch.bool))
    ignored = advantages.max_rl(torch.tensor([[1.0, 0.0, -0.5]]), torch.tensor([[True, True, False]]))
    assert ignored.tolist() == [[1.0, -1.0, 0.0]]


def test_batch_norm_by_hand() -> None:
    # Valid: -1 1 0 | 3 -3, so mean 0 and sample variance (1 + 1 + 0 + 9 + 9) / 4 = 5.
    totals_PG = torch.tensor([[-1.0, 1.0, 0.0], [3.0, -3.0, float("nan")]])
    valid_PG = torch.tensor([[True, True, True], [True, True, False]])
    expected = torch.tensor([[-1.0, 1.0, 0.0], [3.0, -3.0, 0.0]]) / (5**0.5 + 1e-4)
    torch.testing.assert_close(advantages.batch_norm(totals_PG, valid_PG), expected)
    alone_PG = torch.tensor([[True, False, False], [False, False, False]])
    assert torch.equal(advantages.batch_norm(totals_PG, alone_PG), torch.zeros(2, 3))


@pytest.mark.parametrize("function", [advantages.grpo, advantages.dr_grpo, advantages.rloo, advantages.max_rl])
def test_groups_without_a_comparison_get_zeros(function: object) -> None:
    rewards_PG = torch.tensor([[1.0, float("nan")], [0.7, 0.7], [5.0, 6.0]])
    valid_PG = torch.tensor([[True, False], [True, True], [False, False]])
    assert callable(function)
    assert torch.equal(function(rewards_PG, valid_PG), torch.zeros(3, 2))


def test_zero_std_fraction() -> None:
    rewards_PG = torch.tensor([[0.1, 0.1, 0.1], [1.0, 1.0, 0.0], [1.0, 1.0, float("nan")], [1.0, 9.0, 9.0]])
    valid_PG = torch.tensor([[True] * 3, [True] * 3, [True, True, False], [True, False, False]])
    assert advantages.zero_std_fraction(rewards_PG, valid_PG) == 0.75
