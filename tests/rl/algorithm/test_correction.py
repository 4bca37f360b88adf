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


def test_mismatch_by_hand() -> None:
    found = correction.mismatch(TRAIN_BT, ROLLOUT_BT, torch.tensor([False, True]))
    # d = log train - log rollout = -log 2 and 0: k3 = (1/2 + log 2 - 1 + 0) / 2
    assert math.isclose(found["mismatch_k3"], (math.log(2) - 0.5) / 2, rel_tol=1e-5)
    assert math.isclose(found["mismatch_max"], math.log(2), rel_tol=1e-5)


def test_mismatch_of_identical_policies_and_of_nothing_is_zero() -> None:
    zero = {"mismatch_k3": 0.0, "mismatch_max": 0.0}
    assert correction.mismatch(TRAIN_BT, TRAIN_BT, torch.tensor([True, True])) == zero
    assert correction.mismatch(TRAIN_BT, ROLLOUT_BT, torch.tensor([False, False])) == zero
