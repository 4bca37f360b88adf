"""Penalties for leaving the reference policy: per-token estimators of KL(policy || reference), pure functions.

From J. Schulman, "Approximating KL divergence" (2020), with d = log pi_ref - log pi at tokens sampled from pi.
All three are differentiable through ``logprobs_BT``; ``beta`` is the coefficient of the term in the loss, and what is
shown as ``kl`` is the estimate itself, in nats per token.
"""

from __future__ import annotations

from torch import Tensor

from rl.algorithm.terms import Shown, Term
from rl.config.declared import declares


@declares(not_negative=("beta",))
def k1(logprobs_BT: Tensor, reference_logprobs_BT: Tensor, *, beta: float = 0.001) -> Term:
    """-d: unbiased, high variance, may be negative (Schulman 2020, k1). As a *loss* its expected gradient is zero
    on-policy: it measures drift, it does not hold the policy back. Kept for ablations.
    """
    return _term(logprobs_BT - reference_logprobs_BT, beta)


@declares(not_negative=("beta",))
def k2(logprobs_BT: Tensor, reference_logprobs_BT: Tensor, *, beta: float = 0.001) -> Term:
    """d^2 / 2: biased, low variance (Schulman 2020, k2). As a loss its gradient is, on-policy, exactly that of the
    reverse KL.
    """
    return _term((reference_logprobs_BT - logprobs_BT).square() / 2, beta)


@declares(not_negative=("beta",))
def k3(logprobs_BT: Tensor, reference_logprobs_BT: Tensor, *, beta: float = 0.001) -> Term:
    """exp(d) - d - 1: unbiased, low variance, never negative (Schulman 2020, k3); GRPO (arXiv 2402.03300),
    equation 4. The default beta is BLIP3o-NEXT's (arXiv 2510.15857).
    """
    return _term(k3_values(logprobs_BT, reference_logprobs_BT), beta)


def k3_values(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log ref - log pi, in nats per token."""
    delta_BT = reference_logprobs_BT - logprobs_BT
    # expm1: near d = 0 the plain form subtracts nearly equal numbers and may come out negative.
    return delta_BT.expm1() - delta_BT


def _term(values_BT: Tensor, beta: float) -> Term:
    return Term(beta * values_BT, {"kl": Shown(values_BT.detach())})
