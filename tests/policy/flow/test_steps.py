"""One sampler step against numbers of its own: coefficients, log-density, KL, noise left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from policy.flow.steps import euler_step
from tests.rl.algorithm.flow.golden import GOLDEN, latents, log_density, made, name, of, stochastic_cases

CASES = GOLDEN["sde_steps"]["cases"]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_coefficients_and_the_state_that_is_drawn(case: Mapping[str, Any]) -> None:
    step = made(case)
    assert (step.x_weight, step.v_weight, step.std) == pytest.approx(
        (case["coefficient_x"], case["coefficient_v"], case["std"]), abs=1e-9
    )
    mean = step.mean(of("x"), of("v_old"))
    torch.testing.assert_close(mean, latents(case["mean_old"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mean + step.std * of("eps"), latents(case["x_next"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", stochastic_cases(), ids=name)
def test_log_density_ratio_and_kl(case: Mapping[str, Any]) -> None:
    step, drawn = made(case), latents(case["x_next"])
    old, new, reference = (step.mean(of("x"), of(which)) for which in ("v_old", "v_new", "v_ref"))
    close = torch.testing.assert_close
    for mean, which in ((old, "old"), (new, "new"), (reference, "ref")):
        close(log_density(step, drawn, mean), torch.tensor(case[f"logp_{which}_mean"]), rtol=1e-5, atol=1e-6)
    close(4 * log_density(step, drawn, old), torch.tensor(case["logp_old_sum"]), rtol=1e-5, atol=1e-6)
    close(step.log_ratio(drawn, new, old), torch.tensor(case["log_ratio_mean"]), rtol=2e-4, atol=2e-7)
    close(step.kl(new, reference), torch.tensor(case["kl_to_ref_mean"]), rtol=1e-3, atol=1e-9)
    close(step.kl(new, old), torch.tensor(case["kl_new_old_mean"]), rtol=1e-3, atol=1e-9)


def test_the_log_ratio_is_that_of_normal_distributions() -> None:
    step = made(next(stochastic_cases()))
    mean, drawn = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    wanted = log_density(step, drawn, mean) - log_density(step, drawn, mean + 0.1)
    torch.testing.assert_close(step.log_ratio(drawn, mean, mean + 0.1), wanted)


def test_a_golden_case_of_a_kind_that_we_have_not_is_no_ode() -> None:
    with pytest.raises(KeyError, match="dance"):
        made({"kind": "dance", "sigma": 0.5, "sigma_next": 0.25, "eta": 0.3})


def test_the_log_ratio_of_equal_means_is_exactly_0_and_keeps_its_gradient() -> None:
    step = made(next(stochastic_cases()))
    flow = torch.randn(3, 1, 2, 2, requires_grad=True)
    mean = step.mean(torch.randn(3, 1, 2, 2), flow)
    drawn = (mean + step.std * torch.randn(3, 1, 2, 2)).detach()
    ratio_B = step.log_ratio(drawn, mean, mean.detach()).exp()
    assert torch.equal(ratio_B, torch.ones(3))
    (by_ratio,) = torch.autograd.grad(ratio_B.sum(), flow, retain_graph=True)
    (by_density,) = torch.autograd.grad(log_density(step, drawn, mean).sum(), flow)
    torch.testing.assert_close(by_ratio, by_density)


@pytest.mark.parametrize("row", GOLDEN["noise_levels"]["rows"], ids=lambda row: f"{row['steps']}-{name(row)}")
def test_cps_leaves_the_noise_that_belongs_there_and_the_sde_more(row: Mapping[str, Any]) -> None:
    step = made(row)
    kept = step.v_weight + step.x_weight * step.sigma  # of the noise that v stands for
    excess = math.hypot(kept, step.std) - step.sigma_next
    assert excess == pytest.approx(row["excess_over_sigma_next"], abs=1e-9)
    assert excess > 1e-3 if row["kind"] == "flow" else abs(excess) < 1e-12


@pytest.mark.parametrize("row", GOLDEN["gaussian_chain"]["rows"], ids=lambda row: f"{row['kind']}-{row['steps']}")
def test_where_a_whole_chain_of_steps_ends_with_an_exact_velocity(row: Mapping[str, Any]) -> None:
    """x0 ~ N(1, .5^2), v* = p x + q in closed form: mean and variance go through the steps' affine maps."""
    steps, tau, mean, variance = row["steps"], 0.5, 0.0, 1.0
    sigmas = [1 - index / steps for index in range(steps)] + [0.0]
    for s, s_next in itertools.pairwise(sigmas):
        step = made({**row, "sigma": s, "sigma_next": s_next})
        p = (s - (1 - s) * tau**2) / ((1 - s) ** 2 * tau**2 + s**2)
        q = -1.0 - p * (1 - s)
        gain = step.x_weight + step.v_weight * p
        mean, variance = gain * mean + step.v_weight * q, gain**2 * variance + step.std**2
    assert (mean, math.sqrt(variance)) == pytest.approx((row["final_mean"], row["final_std"]), rel=1e-6)


def test_an_ode_step_has_no_log_density() -> None:
    with pytest.raises(ValueError, match="leave it out of the window"):
        euler_step(1.0, 0.5).log_ratio(of("x"), of("x"), of("x"))
