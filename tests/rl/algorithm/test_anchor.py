"""The anchor against hand-computed drift, and inside the trainer."""

from __future__ import annotations

import pytest
import torch

from rl.algorithm.anchor import condition


def test_drift_is_relative_to_the_reference_and_one_number_a_sample() -> None:
    reference_BSD = torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]])
    hidden_BSD = torch.tensor([[[1.0, 1.0]], [[3.0, 0.0]]])
    term = condition(lambda x: 2 * x, hidden_BSD, reference_BSD, beta=0.5)
    # sample 0: |(0, -2)|^2 / |(2, 4)|^2 = 4 / 20
    torch.testing.assert_close(term.shown["anchor"].values, torch.tensor([[0.2], [0.0]]))
    torch.testing.assert_close(term.loss, torch.tensor([[0.1], [0.0]]))


def test_only_what_the_connector_sees_is_held() -> None:
    def first_channel(hidden: torch.Tensor) -> torch.Tensor:
        return hidden[..., :1]

    hidden_BSD = torch.tensor([[[1.5, 7.0]]], requires_grad=True)
    term = condition(first_channel, hidden_BSD, torch.tensor([[[1.0, 0.0]]]))
    term.loss.sum().backward()
    assert term.shown["anchor"].values.item() == pytest.approx(0.25)
    torch.testing.assert_close(hidden_BSD.grad, torch.tensor([[[1.0, 0.0]]]))
    assert not term.shown["anchor"].values.requires_grad
