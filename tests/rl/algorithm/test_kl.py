"""KL estimators: by hand, and against the exact divergence."""

from __future__ import annotations

import math

import pytest
import torch

from rl.algorithm import kl

LOGPROBS_BT = torch.tensor([[math.log(0.5), math.log(0.2)]])
REFERENCE_BT = torch.tensor([[math.log(0.25), math.log(0.4)]])  # d = -log 2, log 2


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (kl.k1, [math.log(2), -math.log(2)]),
        (kl.k2, [math.log(2) ** 2 / 2, math.log(2) ** 2 / 2]),
        (kl.k3, [0.5 + math.log(2) - 1, 2 - math.log(2) - 1]),
    ],
)
def test_by_hand(estimator: object, expected: list[float]) -> None:
    assert callable(estimator)
    term = estimator(LOGPROBS_BT, REFERENCE_BT, beta=0.1)
    torch.testing.assert_close(term.shown["kl"].values, torch.tensor([expected]))
    torch.testing.assert_close(term.loss, 0.1 * torch.tensor([expected]))


@pytest.mark.parametrize("estimator", [kl.k1, kl.k3])
def test_unbiased(estimator: object) -> None:
    assert callable(estimator)
    policy_K = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    reference_K = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    exact = (policy_K * (policy_K / reference_K).log()).sum()
    values_K = estimator(policy_K.log(), reference_K.log()).shown["kl"].values
    torch.testing.assert_close((policy_K * values_K).sum(), exact)


def test_k3_is_never_negative_near_zero() -> None:
    logprobs_BT = torch.linspace(-12, -1, 1000)[None]
    assert (kl.k3(logprobs_BT, logprobs_BT + 1e-4).shown["kl"].values >= 0).all()


def test_gradient_of_k2_is_that_of_the_reverse_kl() -> None:
    logits_K = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    reference_K = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    logprobs_K = logits_K.log_softmax(0)
    exact = torch.autograd.grad((logprobs_K.exp() * (logprobs_K - reference_K)).sum(), logits_K, retain_graph=True)[0]
    sampled = (logprobs_K.detach().exp() * kl.k2(logprobs_K, reference_K, beta=1.0).loss).sum()
    torch.testing.assert_close(torch.autograd.grad(sampled, logits_K)[0], exact)
