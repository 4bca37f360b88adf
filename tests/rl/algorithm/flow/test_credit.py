"""Whose merit a picture is: golden numbers, and what a failed render takes with it."""

from __future__ import annotations

import torch

from rewards.scoring import mean_score
from rl.algorithm.advantages import grpo
from rl.algorithm.flow.credit import decoder_advantages
from rl.types import Score
from tests.rl.algorithm.flow.golden import GOLDEN

CREDIT = GOLDEN["credit"]
REWARDS_BK = torch.tensor(CREDIT["rewards_GK"])
ALL = torch.ones_like(REWARDS_BK, dtype=torch.bool)
close = torch.testing.assert_close


def test_the_language_model_learns_from_the_row_means() -> None:
    scores = [mean_score([Score(value) for value in row]).value for row in CREDIT["rewards_GK"]]
    rewards_B = torch.tensor(scores)
    close(rewards_B, torch.tensor(CREDIT["row_means"]))
    close(grpo(rewards_B[None], ALL[None, :, 0])[0], torch.tensor(CREDIT["ar_advantage"]), rtol=1e-4, atol=1e-6)


def test_the_decoder_learns_from_the_deviation_from_its_own_sequence() -> None:
    found_BK = decoder_advantages(REWARDS_BK, ALL)
    close(found_BK, torch.tensor(CREDIT["decoder_within"]), rtol=1e-4, atol=1e-6)
    close(found_BK.sum(1), torch.zeros(4), rtol=0, atol=1e-5)


def test_a_failed_render_is_lost_to_the_decoder_there_alone() -> None:
    valid_BK = ALL.clone()
    valid_BK[0, 2] = False
    rewards_BK = REWARDS_BK.masked_fill(~valid_BK, float("nan"))
    # row 0 is (.9, .7): squares .02; the others .02, .18, .14; degrees of freedom 1 + 2 + 2 + 2
    std = ((0.02 + 0.02 + 0.18 + 0.14) / 7) ** 0.5
    found_BK = decoder_advantages(rewards_BK, valid_BK)
    close(found_BK[0], torch.tensor([0.1, -0.1, 0.0]) / (std + 1e-4), rtol=1e-4, atol=1e-6)
    close(found_BK[3], (REWARDS_BK[3] - 0.4) / (std + 1e-4), rtol=1e-4, atol=1e-6)


def test_renders_that_score_alike_teach_nothing() -> None:
    """The mean of equal numbers is another one by float noise, for many numbers and counts."""
    for count in range(2, 10):
        rewards_BK = torch.linspace(0.05, 1.0, 20)[:, None].expand(-1, count)
        assert decoder_advantages(rewards_BK, torch.ones(20, count, dtype=torch.bool)).eq(0).all()


def test_one_valid_render_or_none_compares_with_nothing() -> None:
    valid_BK = torch.tensor([[True, False], [False, False], [True, True]])
    found_BK = decoder_advantages(torch.tensor([[1.0, 0.0], [5.0, 3.0], [0.25, 0.75]]), valid_BK)
    std = 0.125**0.5
    close(found_BK, torch.tensor([[0.0, 0.0], [0.0, 0.0], [-0.25, 0.25]]) / (std + 1e-4))
    assert not decoder_advantages(torch.tensor([[1.0], [2.0]]), torch.ones(2, 1, dtype=torch.bool)).any()
    assert not decoder_advantages(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)).any()
