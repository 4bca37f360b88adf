"""DiffusionNFT and AWM: golden losses and gradients, the limit that they share, and what does not change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from rl.algorithm.flow.nft import awm, nft, noised, velocity_mse
from rl.algorithm.terms import Term
from tests.rl.algorithm.flow.golden import ADVANTAGES, GOLDEN, latents, of

T_N = torch.tensor(GOLDEN["inputs"]["forward"]["t"])
OLD, NEW, REFERENCE, TARGET = (of("forward", which) for which in ("v_old", "v_new", "v_ref", "v_target"))
close = torch.testing.assert_close


def gradient(loss: Callable[[Tensor], Tensor], flow: Tensor) -> Tensor:
    flow = flow.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(flow), flow)
    return found


def test_noised_latents_and_the_flow_that_leads_back() -> None:
    x_t, target = noised(of("forward", "x0"), of("forward", "noise"), T_N)
    close(x_t, of("forward", "x_t"))
    close(target, TARGET)


@pytest.mark.parametrize("row", GOLDEN["nft"]["rows"], ids=lambda row: f"beta{row['beta']}-{row['adaptive']}")
def test_nft_is_the_golden_loss_and_gradient(row: Mapping[str, Any]) -> None:
    def terms(flow: Tensor) -> list[Term]:
        policy = nft(flow, OLD, TARGET, T_N, ADVANTAGES, beta=row["beta"], adaptive=row["adaptive"])
        return [policy, velocity_mse(flow, REFERENCE, beta=row["kl"])]

    policy, pull = terms(NEW)
    close(policy.loss, torch.tensor(row["policy_loss_per_sample"]), rtol=1e-5, atol=1e-6)
    close(pull.shown["velocity_mse"].values, torch.tensor(row["pull_to_ref"]), rtol=1e-5, atol=1e-8)
    close((policy.loss + pull.loss).mean(), torch.tensor(row["loss"]), rtol=1e-5, atol=1e-6)
    found = gradient(lambda flow: sum(term.loss for term in terms(flow)).mean(), NEW)
    close(found, latents(row["grad_v"]), rtol=1e-5, atol=1e-6)


def test_at_the_old_policy_the_gradient_is_the_advantage_times_that_of_flow_matching() -> None:
    """The value says nothing of the advantages there: it is the gradient that does."""
    at_old = GOLDEN["nft"]["at_old"]
    found = gradient(lambda flow: nft(flow, OLD, TARGET, T_N, ADVANTAGES).loss.mean(), OLD)
    close(found, latents(at_old["grad_v"]), rtol=1e-5, atol=1e-6)
    matching = latents(GOLDEN["nft"]["fm_gradient_at_old"])
    close(found, ADVANTAGES.reshape(-1, 1, 1, 1) * matching / 2, rtol=1e-5, atol=1e-6)

    def flow_matching(flow: Tensor) -> Tensor:
        error = T_N.reshape(-1, 1, 1, 1) * (flow - TARGET)
        return (error.square().flatten(1).mean(1) / error.detach().abs().flatten(1).mean(1)).sum()

    close(gradient(flow_matching, OLD), matching, rtol=1e-5, atol=1e-6)
    other = nft(OLD, OLD, TARGET, T_N, torch.tensor([-0.3, 2.0])).loss
    close(other, nft(OLD, OLD, TARGET, T_N, ADVANTAGES).loss)


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_the_minimum_of_nft_is_a_step_towards_the_target_as_long_as_the_advantage(beta: float) -> None:
    wanted = OLD + ADVANTAGES.reshape(-1, 1, 1, 1) / 5 / beta * (TARGET - OLD)
    if beta == 1.0:
        close(wanted, latents(GOLDEN["nft"]["optimum_beta1"]), rtol=1e-5, atol=1e-6)
    found = gradient(lambda flow: nft(flow, OLD, TARGET, T_N, ADVANTAGES, beta=beta, adaptive=False).loss.sum(), wanted)
    close(found, torch.zeros_like(found), rtol=0, atol=1e-5)


def test_nft_is_weighted_flow_matching_and_a_pull_to_the_old_policy() -> None:
    t, moved, error = T_N.reshape(-1, 1, 1, 1), NEW - OLD, T_N.reshape(-1, 1, 1, 1) * (TARGET - OLD)
    for beta in (1.0, 0.1):
        parts = error.square() / beta * 5 - 2 * ADVANTAGES.reshape(-1, 1, 1, 1) * t * error * moved
        wanted_N = (parts + 5 * beta * t.square() * moved.square()).flatten(1).mean(1)
        found_N = nft(NEW, OLD, TARGET, T_N, ADVANTAGES, beta=beta, adaptive=False).loss
        close(found_N, wanted_N, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", GOLDEN["awm"]["rows"], ids=lambda row: str(row["weighting"]))
def test_awm_is_the_golden_loss(row: Mapping[str, Any]) -> None:
    for clip, wanted in row["loss_at_clip"].items():
        found = awm(NEW, OLD, TARGET, T_N, ADVANTAGES, weighting=row["weighting"], clip=float(clip))
        close(found.loss.mean(), torch.tensor(wanted), rtol=1e-5, atol=2e-6)
    close(found.shown["ratio_mean"].values, torch.tensor(row["ratio"]), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_awm_is_the_limit_of_nft_at_the_old_policy(beta: float) -> None:
    by_nft = gradient(lambda flow: nft(flow, OLD, TARGET, T_N, ADVANTAGES, beta=beta, adaptive=False).loss.sum(), OLD)
    by_awm = gradient(lambda flow: awm(flow, flow, TARGET, T_N, ADVANTAGES, weighting="t2").loss.sum(), OLD)
    close(by_nft, by_awm, rtol=1e-4, atol=1e-6)


def test_the_first_ratio_of_awm_is_exactly_1() -> None:
    flow = torch.randn(7, 2, 4, 4)
    term = awm(flow, flow, torch.randn(7, 2, 4, 4), torch.rand(7), torch.randn(7))
    assert torch.equal(term.shown["ratio_mean"].values, torch.ones(7))
    assert not term.shown["ratio_deviation"].values.any()


def test_a_large_advantage_is_cut_and_an_exact_match_gives_no_infinity() -> None:
    cut = nft(NEW, OLD, TARGET, T_N, torch.tensor([50.0, -50.0])).loss
    close(cut, nft(NEW, OLD, TARGET, T_N, torch.tensor([5.0, -5.0])).loss)
    assert nft(TARGET, TARGET, TARGET, T_N, ADVANTAGES).loss.isfinite().all()
    assert gradient(lambda flow: nft(flow, TARGET, TARGET, T_N, ADVANTAGES).loss.sum(), TARGET).isfinite().all()


@pytest.mark.parametrize("size", [1, 3, 12])
@pytest.mark.parametrize("algorithm", [nft, awm])
def test_rows_do_not_know_of_each_other(algorithm: Callable[..., Term], size: int) -> None:
    """So that micro-batches and ranks change nothing."""
    generator = torch.Generator().manual_seed(0)
    flow, old, target = (torch.randn(12, 2, 4, 4, generator=generator) for _ in range(3))
    t_N, advantages_N = torch.rand(12, generator=generator), torch.randn(12, generator=generator)
    whole = algorithm(flow, old, target, t_N, advantages_N).loss
    columns = zip(*(part.split(size) for part in (flow, old, target, t_N, advantages_N)), strict=True)
    assert torch.equal(torch.cat([algorithm(*part).loss for part in columns]), whole)


def test_no_gradient_reaches_the_other_policies() -> None:
    others = [OLD.clone().requires_grad_(), TARGET.clone().requires_grad_(), REFERENCE.clone().requires_grad_()]
    flow = NEW.clone().requires_grad_()
    terms = [nft(flow, others[0], others[1], T_N, ADVANTAGES), velocity_mse(flow, others[2])]
    sum(term.loss.sum() for term in terms).backward()
    assert flow.grad is not None and all(one.grad is None for one in others)


def test_the_pull_to_the_reference_moves_the_weights_alone() -> None:
    found = gradient(lambda flow: velocity_mse(flow, REFERENCE, beta=0.5).loss.sum(), NEW)
    close(found, 0.5 * 2 * (NEW - REFERENCE) / 4)
