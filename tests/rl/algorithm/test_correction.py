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
    found = correction.mismatch(TRAIN_BT.clone().requires_grad_(), ROLLOUT_BT)
    apart_BT = torch.tensor([[math.log(1.5), math.log(5)], [math.log(2), 0.0]])
    torch.testing.assert_close(found["mismatch"].values, apart_BT)
    torch.testing.assert_close(found["mismatch_max"].values, apart_BT)
    # d = log train - log rollout: k3 = exp(d) - d - 1
    k3_BT = torch.tensor([[0.5 - math.log(1.5), 4 - math.log(5)], [math.log(2) - 0.5, 0.0]])
    torch.testing.assert_close(found["mismatch_k3"].values, k3_BT)
    assert [shown.how for shown in found.values()] == ["mean", "max", "mean"]
    assert not any(shown.values.requires_grad for shown in found.values())
