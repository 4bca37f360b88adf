"""Surrogates beyond the clip, by hand; and what all of them share: the first gradient, and rows that stand alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rl.algorithm import correction, kl, losses
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import KLTerm
from rl.registry import BUILT_IN, resolve
from tests.rl.trainer.trainer_case import make_batch, make_trainer, weights

Surrogate = Callable[..., losses.SurrogateLoss]
ALL: list[Surrogate] = [resolve("losses", name) for name in BUILT_IN["losses"]]
OF_RATIO = [surrogate for surrogate in ALL if surrogate is not losses.reinforce]
OLD_BT = torch.tensor([[-1.0, -2.0], [-1.0, -2.0]])
ADVANTAGES_B = torch.tensor([2.0, -1.0])
BOTH_BT = torch.ones(2, 2, dtype=torch.bool)


def asked(surrogate: Surrogate, now_BT: Tensor, old_BT: Tensor, advantages_B: Tensor) -> losses.SurrogateLoss:
    every = (torch.ones_like(now_BT, dtype=torch.bool),) if getattr(surrogate, "sequences", False) else ()
    return surrogate(now_BT, old_BT, advantages_B, *every)


def slope(surrogate: Surrogate, now_BT: Tensor, old_BT: Tensor, advantages_B: Tensor) -> Tensor:
    now_BT = now_BT.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(asked(surrogate, now_BT, old_BT, advantages_B).loss_BT.sum(), now_BT)
    return found


@pytest.mark.parametrize("surrogate", ALL, ids=lambda one: one.__name__)
def test_the_first_gradient_is_that_of_reinforce(surrogate: Surrogate) -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs_BT, advantages_B = torch.randn(5, 4, generator=generator) - 2, torch.randn(5, generator=generator)
    found = asked(surrogate, logprobs_BT, logprobs_BT, advantages_B)
    assert torch.equal(found.ratio_BT, torch.ones(5, 4)) and not found.clipped_BT.any()
    wanted_BT = -advantages_B[:, None].expand(5, 4)
    torch.testing.assert_close(slope(surrogate, logprobs_BT, logprobs_BT, advantages_B), wanted_BT)


def test_gspo_by_hand() -> None:
    """Log-ratios .2 and .4 -> ratio e^.3 for both tokens, above 1.1: clipped where A > 0."""
    now_BT = OLD_BT + torch.tensor([[0.2, 0.4], [0.2, 0.4]])
    found = losses.gspo(now_BT, OLD_BT, ADVANTAGES_B, BOTH_BT, clip_low=0.1, clip_high=0.1)
    ratio = math.exp(0.3)
    torch.testing.assert_close(found.ratio_BT, torch.full((2, 2), ratio))
    torch.testing.assert_close(found.loss_BT, torch.tensor([[-2.2, -2.2], [ratio, ratio]]))
    assert found.clipped_BT.tolist() == [[True, True], [False, False]]


def test_gspo_counts_the_tokens_that_were_sampled() -> None:
    mask_BT = torch.tensor([[True, False], [True, True]])
    now_BT = OLD_BT + torch.tensor([[0.2, 9.0], [0.2, 0.4]])
    found = losses.gspo(now_BT, OLD_BT, ADVANTAGES_B, mask_BT, clip_low=9, clip_high=9)
    torch.testing.assert_close(found.ratio_BT[:, 0], torch.tensor([math.exp(0.2), math.exp(0.3)]))


def test_cispo_by_hand() -> None:
    """Ratios 1.1 and 1.5 of A = 2, 1.25 and .5 of A = -1; the weights end at 1.2 and .8."""
    now_BT = OLD_BT + torch.tensor([[1.1, 1.5], [1.25, 0.5]]).log()
    found = losses.cispo(now_BT, OLD_BT, ADVANTAGES_B, clip_low=0.2, clip_high=0.2)
    weights_BT = torch.tensor([[1.1, 1.2], [1.2, 0.8]])
    torch.testing.assert_close(found.loss_BT, -weights_BT * ADVANTAGES_B[:, None] * now_BT)
    assert found.clipped_BT.tolist() == [[False, True], [True, True]]
    cut = partial(losses.cispo, clip_low=0.2, clip_high=0.2)
    torch.testing.assert_close(slope(cut, now_BT, OLD_BT, ADVANTAGES_B), torch.tensor([[-2.2, -2.4], [1.2, 0.8]]))
    uncut = losses.cispo(OLD_BT + torch.tensor([[0.01, 4.9]]).log(), OLD_BT, ADVANTAGES_B)
    assert not uncut.clipped_BT.any()  # by the paper there is no lower bound


def test_sapo_by_hand() -> None:
    """Ratio 1 + ln 3 of A = 2 at tau 1: the gate is 4 x 3/4; of A = -1 at tau 2, ratio 1 + ln 3 / 2: 2 x 3/4."""
    ratio_BT = torch.tensor([[1 + math.log(3), 1.0], [1 + math.log(3) / 2, 1.0]])
    now_BT = OLD_BT + ratio_BT.log()
    found = losses.sapo(now_BT, OLD_BT, ADVANTAGES_B, tau_positive=1.0, tau_negative=2.0)
    torch.testing.assert_close(found.loss_BT, torch.tensor([[-6.0, -4.0], [1.5, 1.0]]))
    gate = partial(losses.sapo, tau_positive=1.0, tau_negative=2.0)
    # d/d log pi: -A rho 4 s (1 - s), s = 3/4
    wanted_BT = torch.tensor([[-2 * ratio_BT[0, 0] * 0.75, -2.0], [ratio_BT[1, 0] * 0.75, 1.0]])
    torch.testing.assert_close(slope(gate, now_BT, OLD_BT, ADVANTAGES_B), wanted_BT)


@pytest.mark.parametrize("surrogate", OF_RATIO, ids=lambda one: one.__name__)
def test_neither_the_cut_nor_the_order_of_a_batch_changes_two_updates(surrogate: Surrogate) -> None:
    """The second update is off-policy: ratios, clips and whole-sample weights are at work."""
    results = []
    for micro_batch, order in ((64, range(6)), (1, range(6)), (4, (5, 2, 0, 4, 1, 3))):
        objective = PolicyObjective(
            surrogate,
            losses.sequence_mean,
            partial(correction.sequence_tis, cap=1.01),
            penalties={"kl": KLTerm(partial(kl.k3, beta=0.01))},
        )
        trainer = make_trainer(objective=objective, micro_batch=micro_batch)
        batch = make_batch(trainer).take(order)
        seen = [trainer.update(batch) for _ in range(2)]
        results.append(([one["loss"] for one in seen], weights(trainer)))
        assert 0 < seen[0]["correction_clipped"] < 1
    for seen_losses, tensors in results[1:]:
        assert seen_losses == pytest.approx(results[0][0], rel=1e-5, abs=1e-7)
        for name, value in tensors.items():
            torch.testing.assert_close(value, results[0][1][name], atol=5e-6, rtol=1e-4)


def test_a_loss_of_whole_samples_is_told_which_tokens_were_sampled() -> None:
    seen: list[Any] = []

    def looks(logprobs_BT: Tensor, old_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor) -> losses.SurrogateLoss:
        seen.append(mask_BT)
        return losses.gspo(logprobs_BT, old_BT, advantages_B, mask_BT)

    looks.sequences = True  # type: ignore[attr-defined]
    trainer = make_trainer(objective=PolicyObjective(partial(looks), losses.sequence_mean, correction.sequence_mis))
    batch = make_batch(trainer)
    trainer.update(batch)
    mask_BT = torch.ones_like(batch.tokens_BT, dtype=torch.bool)
    mask_BT[0, 2:] = False
    trainer.update(dataclasses.replace(batch, mask_BT=mask_BT))
    assert seen[0].all() and torch.equal(seen[1], mask_BT)
