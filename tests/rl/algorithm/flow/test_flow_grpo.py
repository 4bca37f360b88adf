"""Flow-GRPO, RatioNorm, the KL mask and step weights: golden numbers, exactness, and a Monte-Carlo test of the sign."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.flow.samplers import trajectory
from policy.flow.steps import FlowStep, cps_step, sde_step
from policy.flow.walk import FlowTrajectory, Window
from rl.algorithm.flow.flow_grpo import flow_grpo, step_weights
from tests.rl.algorithm.flow.golden import ADVANTAGES, GOLDEN, latents, made, name, of, stochastic_cases

close = torch.testing.assert_close
D = 4


def compared(case: Mapping[str, Any]) -> tuple[FlowStep, Tensor, Tensor, Tensor]:
    step = made(case)
    old = step.mean(of("x"), of("v_old"))
    return step, latents(case["x_next"]), step.mean(of("x"), of("v_new")), old


def of_a_window(case: Mapping[str, Any]) -> tuple[list[FlowStep], int, Tensor, Tensor, Tensor]:
    step, *states = compared(case)
    return [step], 0, *states


@pytest.mark.parametrize("case", stochastic_cases(), ids=name)
def test_the_clipped_ratio_is_the_golden_loss_and_gradient(case: Mapping[str, Any]) -> None:
    step, drawn, _, old = compared(case)
    for wanted in case["ppo"]:
        flow = of("v_new").requires_grad_()
        term = flow_grpo(
            [step], 0, drawn, step.mean(of("x"), flow), old, ADVANTAGES, clip=wanted["clip"] * math.sqrt(D)
        )
        close(term.loss, torch.tensor(wanted["loss_per_sample"]), rtol=1e-5, atol=2e-6)
        clipped = term.shown["clipped_up"].values | term.shown["clipped_down"].values
        assert clipped.tolist() == wanted["clipped"]
        (found,) = torch.autograd.grad(term.loss.mean(), flow)
        close(found, latents(wanted["grad_v_new"]), rtol=1e-4, atol=1e-6)
    close(term.shown["ratio_mean"].values, torch.tensor(case["ratio"]), rtol=1e-5, atol=2e-6)
    close(term.shown["kl_old"].values, torch.tensor(case["kl_new_old_mean"]), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("case", stochastic_cases(), ids=name)
def test_ratio_norm_is_the_golden_one(case: Mapping[str, Any]) -> None:
    wanted, clip = case["guard"], case["guard"]["clip"] * math.sqrt(D)
    term = flow_grpo(*of_a_window(case), ADVANTAGES, clip=clip, ratio_norm=True)
    close(term.shown["ratio_mean"].values, torch.tensor(case["guard_ratio"]), rtol=1e-5, atol=2e-6)
    close(term.loss.mean(), torch.tensor(wanted["loss_unweighted"]), rtol=1e-5, atol=2e-6)
    weighted = flow_grpo(*of_a_window(case), ADVANTAGES, clip=clip, ratio_norm=True, weights="guard").loss.mean()
    close(weighted, torch.tensor(wanted["loss_over_dt"]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("case", stochastic_cases(), ids=name)
def test_the_kl_mask_drops_what_has_moved_far_enough(case: Mapping[str, Any]) -> None:
    for wanted in case["dppo"]:
        term = flow_grpo(*of_a_window(case), ADVANTAGES, kl_mask=wanted["threshold"])
        dropped = term.shown["clipped_up"].values | term.shown["clipped_down"].values
        assert dropped.tolist() == wanted["dropped"]
        close(term.loss.mean(), torch.tensor(wanted["loss"]), rtol=1e-5, atol=2e-6)


def test_ratio_norm_is_the_mean_product_of_shift_and_noise() -> None:
    step = sde_step(0.9, 0.8, eta=0.7)
    old, noise, shift = torch.randn(5, 2, 4, 4), torch.randn(5, 2, 4, 4), 0.1 * torch.randn(5, 2, 4, 4)
    term = flow_grpo([step], 0, old + step.std * noise, old + shift, old, torch.ones(5), clip=1e9, ratio_norm=True)
    close(term.shown["ratio_mean"].values.log(), (shift * noise).flatten(1).mean(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dims", [dims for dims in GOLDEN["clip_equivalents"] if dims != "about"])
def test_the_clip_means_the_same_for_latents_of_any_size(dims: str) -> None:
    """Two ratios, just inside and just outside of what 1e-4 at D = 65,536 is at this D."""
    step, count, reach = (
        sde_step(0.9, 0.8, eta=0.7),
        int(dims),
        GOLDEN["clip_equivalents"][dims]["same_kl_per_dim"],
    )
    old = torch.zeros(2, count, 1, 1)
    # with x' = mu_old + 1 and a shift d everywhere, log r = (2 d - d^2) / (2 std^2)
    shifts = [1 - math.sqrt(1 - 2 * step.std**2 * math.log1p(reach * factor)) for factor in (0.98, 1.02)]
    mean = old + torch.tensor(shifts).reshape(2, 1, 1, 1)
    term = flow_grpo([step], 0, old + 1, mean, old, torch.ones(2), clip=0.0256)
    assert term.shown["clipped_up"].values.tolist() == [False, True]


def test_tempflow_weights_are_the_golden_ones() -> None:
    sigmas = [1 - index / 10 for index in range(10)] + [0.0]
    steps = [sde_step(*pair, eta=0.7) for pair in itertools.pairwise(sigmas)]
    wanted = GOLDEN["tempflow_weights"]
    assert [step.std for step in steps] == pytest.approx(wanted["std"], abs=1e-9)
    assert step_weights(steps, how="tempflow") == pytest.approx(wanted["weight_all"], abs=1e-9)
    assert step_weights(steps[:9], how="tempflow") == pytest.approx(wanted["weight_first9"], abs=1e-9)
    assert step_weights(steps[:2], how="equal") == (1.0, 1.0)
    assert step_weights(steps[:2], how="guard") == pytest.approx((10.0, 10.0))


OPTIONS = [{}, {"ratio_norm": True}, {"kl_mask": 1e-5}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 12])
def test_the_first_ratio_is_exactly_1_for_every_micro_batch(options: dict[str, Any], size: int) -> None:
    walked, velocity = painted(12)
    for place, step in enumerate(walked.steps):
        for part in torch.arange(12).split(size):
            state = walked.states[part, place]
            mean = step.mean(state, velocity(state, torch.full((len(part),), 1000 * step.sigma)))
            drawn, old_mean = walked.states[part, place + 1], walked.means[part, place]
            term = flow_grpo([step], 0, drawn, mean, old_mean, torch.randn(len(part)), **options)
            assert torch.equal(term.shown["ratio_mean"].values, torch.ones(len(part)))
            assert not term.shown["clipped_up"].values.any() and not term.shown["clipped_down"].values.any()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_do_not_know_of_each_other(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    old, noise, shift = (torch.randn(12, 2, 4, 4, generator=generator) for _ in range(3))
    step, advantages_B = cps_step(0.75, 0.5, eta=0.7), torch.randn(12, generator=generator)
    given = (old + step.std * noise, old + 1e-3 * shift, old, advantages_B)
    whole = flow_grpo([step], 0, *given, **options).loss
    for size in (1, 5):
        parts = zip(*(one.split(size) for one in given), strict=True)
        assert torch.equal(torch.cat([flow_grpo([step], 0, *part, **options).loss for part in parts]), whole)


def painted(count: int) -> tuple[FlowTrajectory, torch.nn.Module]:
    torch.manual_seed(0)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x: Tensor, timestep_B: Tensor) -> Tensor:
            return self.layer(x) - timestep_B.reshape(-1, 1, 1, 1) / 4000

    network = Network()
    with torch.no_grad():
        scheduler = FlowMatchEulerDiscreteScheduler()
        return trajectory(network, torch.randn(count, 2, 4, 4), scheduler, 8, Window("cps", 0.7, 2)), network


@pytest.mark.parametrize("row", GOLDEN["policy_gradient_1d"]["rows"], ids=lambda row: str(row["kind"]))
def test_the_gradient_is_that_of_the_expected_reward(row: Mapping[str, Any]) -> None:
    """v = v* + theta in one dimension, reward = the end: dE[R]/dtheta of each step is known in closed form. The mean of
    the loss's gradient over many ways must be its negative: sign, scale and log-density in one."""
    steps, count = row["steps"], 400_000
    sigmas = [1 - index / steps for index in range(steps)] + [0.0]
    walk = [made({**row, "sigma": s, "sigma_next": after}) for s, after in itertools.pairwise(sigmas)]
    generator = torch.Generator().manual_seed(5)
    state = torch.randn(count, 1, 1, 1, generator=generator)
    seen: list[tuple[FlowStep, Tensor, Tensor, Tensor]] = []
    for step in walk:
        flow = exact_velocity(state, step.sigma)
        drawn = step.mean(state, flow) + step.std * torch.randn(count, 1, 1, 1, generator=generator)
        if step.std > 0:
            seen.append((step, state, flow, drawn))
        state = drawn
    rewards_B = state.flatten() - state.mean()
    for (step, state, flow, drawn), wanted in zip(seen, row["contribution_of_step"], strict=False):
        theta = torch.zeros(count, 1, 1, 1, requires_grad=True)
        mean = step.mean(state, flow + theta)
        term = flow_grpo([step], 0, drawn, mean, mean.detach(), rewards_B, advantage_cap=1e9)
        (found_B,) = torch.autograd.grad(term.loss.sum(), theta)
        error = float(found_B.std()) / math.sqrt(count)
        assert float(found_B.mean()) == pytest.approx(-wanted, abs=4 * error)
        assert 4 * error < 0.1 * abs(wanted) + 0.005  # tight enough to tell sign and scale


def exact_velocity(x: Tensor, s: float) -> Tensor:
    p = (s - (1 - s) * 0.25) / ((1 - s) ** 2 * 0.25 + s**2)
    return p * x - 1 - p * (1 - s)


def test_advantages_are_cut() -> None:
    case = next(stochastic_cases())
    found = flow_grpo(*of_a_window(case), torch.tensor([50.0, -50.0])).loss
    close(found, flow_grpo(*of_a_window(case), torch.tensor([5.0, -5.0])).loss)
