"""Truncated importance weights and mismatch figures, by hand."""

from __future__ import annotations

import math

import torch

from rl.algorithm import correction

TRAIN_BT = torch.tensor([[math.log(0.3), math.log(0.5)], [math.log(0.1), math.log(0.9)]])
ROLLOUT_BT = torch.tensor([[math.log(0.2), math.log(0.1)], [math.log(0.2), math.log(0.9)]])


def test_token_tis_by_hand() -> None:
    train_BT = TRAIN_BT.clone().requires_grad_(True)
    result = correction.token_tis(train_BT, ROLLOUT_BT)
    torch.testing.assert_close(result.weights_BT, torch.tensor([[1.5, 2.0], [0.5, 1.0]]))
    assert result.clipped_BT.tolist() == [[False, True], [False, False]]
    assert not result.weights_BT.requires_grad


def test_token_tis_cap() -> None:
    weights_BT = correction.token_tis(TRAIN_BT, ROLLOUT_BT, cap=1.2).weights_BT
    torch.testing.assert_close(weights_BT, torch.tensor([[1.2, 1.2], [0.5, 1.0]]))


def test_token_mis_leaves_out_what_lies_outside() -> None:
    result = correction.token_mis(TRAIN_BT.clone().requires_grad_(), ROLLOUT_BT, low=0.6, high=2.0)
    torch.testing.assert_close(result.weights_BT, torch.tensor([[1.5, 0.0], [0.0, 1.0]]))
    assert result.clipped_BT.tolist() == [[False, True], [True, False]]
    assert not result.weights_BT.requires_grad


EVERY_BT = torch.ones(2, 2, dtype=torch.bool)


def test_sequence_tis_by_hand() -> None:
    """Products of the tokens' ratios: 1.5 x 5 and .5 x 1."""
    result = correction.sequence_tis(TRAIN_BT.clone().requires_grad_(), ROLLOUT_BT, EVERY_BT, cap=2.0)
    torch.testing.assert_close(result.weights_BT, torch.tensor([[2.0, 2.0], [0.5, 0.5]]))
    assert result.clipped_BT.tolist() == [[True, True], [False, False]]
    assert not result.weights_BT.requires_grad
    torch.testing.assert_close(
        correction.sequence_tis(TRAIN_BT, ROLLOUT_BT, EVERY_BT, cap=9.0).weights_BT[0], torch.tensor([7.5, 7.5])
    )


def test_sequence_mis_by_hand() -> None:
    result = correction.sequence_mis(TRAIN_BT, ROLLOUT_BT, EVERY_BT, cap=2.0)
    torch.testing.assert_close(result.weights_BT, torch.tensor([[0.0, 0.0], [0.5, 0.5]]))
    assert result.clipped_BT.tolist() == [[True, True], [False, False]]


def test_a_sample_that_ended_early_has_the_ratio_of_its_own_tokens() -> None:
    first_BT = torch.tensor([[True, False], [True, True]])
    found = correction.sequence_tis(TRAIN_BT, ROLLOUT_BT, first_BT, cap=2.0)
    torch.testing.assert_close(found.weights_BT[:, 0], torch.tensor([1.5, 0.5]))


def test_a_ratio_beyond_all_numbers_is_still_bounded() -> None:
    train_BT, rollout_BT = torch.zeros(1, 2), torch.full((1, 2), -100.0)
    mask_BT = torch.ones(1, 2, dtype=torch.bool)
    assert correction.sequence_tis(train_BT, rollout_BT, mask_BT).weights_BT.tolist() == [[2.0, 2.0]]
    assert correction.sequence_mis(train_BT, rollout_BT, mask_BT).weights_BT.tolist() == [[0.0, 0.0]]
    assert correction.token_mis(train_BT, rollout_BT).weights_BT.tolist() == [[0.0, 0.0]]


def test_mismatch_by_hand() -> None:
    found = correction.mismatch(TRAIN_BT.clone().requires_grad_(), ROLLOUT_BT)
    apart_BT = torch.tensor([[math.log(1.5), math.log(5)], [math.log(2), 0.0]])
    torch.testing.assert_close(found["mismatch"].values, apart_BT)
    torch.testing.assert_close(found["mismatch_max"].values, apart_BT)
    # d = log train - log rollout: k3 = exp(d) - d - 1
    k3_BT = torch.tensor([[0.5 - math.log(1.5), 4 - math.log(5)], [math.log(2) - 0.5, 0.0]])
    torch.testing.assert_close(found["mismatch_k3"].values, k3_BT)
    assert [shown.how for shown in found.values()] == ["mean", "max", "mean"]
    assert not any(shown.values.requires_grad for shown in found.values())
