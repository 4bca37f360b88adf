"""The entropy's coefficient by hand, its exact gradient, and what it does to a policy."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch import Tensor

from policy.ar.forward import image_forward
from rl.algorithm import entropy, losses
from rl.algorithm.entropy import Coefficient, EntropyTerm
from rl.algorithm.objective import PolicyObjective
from tests.rl.trainer.trainer_case import LAYOUT, make_batch, make_trainer, tiny_ar


def test_a_bonus_is_always_the_same() -> None:
    assert entropy.bonus(0.0, None, beta=0.01) == entropy.bonus(0.01, 2.0, beta=0.01) == Coefficient(0.01, 0.01)


def test_a_target_by_hand() -> None:
    """c from 0 in steps of .1, at most .25; applied at or below a goal of 2 nats."""
    rule = partial(entropy.target, goal=2.0, step=0.1, most=0.25)
    found, kept = [rule(0.0, None)], 0.0
    for seen in (1.9, 1.5, 1.0, 2.0, 2.5, 1.9, 3.0, 3.0, 3.0):
        found.append(rule(kept, seen))
        kept = found[-1].kept
    assert [one.kept for one in found] == pytest.approx([0, 0.1, 0.2, 0.25, 0.25, 0.15, 0.25, 0.15, 0.05, 0.0])
    assert [one.applied for one in found] == pytest.approx([0, 0.1, 0.2, 0.25, 0.25, 0, 0.25, 0, 0, 0])


def logits_of(ar: torch.nn.Module, hidden_BSD: Tensor) -> Tensor:
    span = LAYOUT.image
    return hidden_BSD[:, :-1] @ ar.lm_head.weight[span.start : span.stop].T  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("chunk", [3, 1024])
def test_the_gradient_of_the_entropy_is_that_of_the_whole_distribution(chunk: int) -> None:
    ar = tiny_ar()
    batch = make_batch(make_trainer(ar))
    asked = (ar, LAYOUT.image, batch.prompt_ids, batch.tokens_BT)
    ar.requires_grad_(True)
    found = image_forward(*asked, temperature=0.7, chunk=chunk, entropy_learns=True)
    plain_BTK = (logits_of(ar, image_forward(*asked).hidden_BSD) / 0.7).log_softmax(-1)
    plain_BT = -(plain_BTK.exp() * plain_BTK).sum(-1)
    torch.testing.assert_close(found.entropy_BT, plain_BT)
    for parameter in (ar.lm_head.weight, ar.model.layers[0].self_attn.q_proj.weight):
        gradients = [
            torch.autograd.grad(one.mean(), parameter, retain_graph=True)[0] for one in (found.entropy_BT, plain_BT)
        ]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-3)
        assert gradients[0].abs().max() > 1e-4
    detached = image_forward(*asked, temperature=0.7, chunk=chunk)
    assert not detached.entropy_BT.requires_grad
    assert torch.equal(detached.entropy_BT, found.entropy_BT)
    assert torch.equal(detached.logprobs_BT, found.logprobs_BT)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_bonus_raises_the_entropy_of_a_policy(beta: float) -> None:
    term = EntropyTerm(partial(entropy.bonus, beta=beta))
    objective = PolicyObjective(losses.grpo, losses.token_mean, penalties={"entropy": term})
    trainer = make_trainer(objective=objective, lr=0.01)
    batch = make_batch(trainer)
    batch = dataclasses.replace(batch, advantages_B=torch.zeros_like(batch.advantages_B))
    seen = [trainer.update(batch) for _ in range(5)]
    assert seen[0]["loss"] == pytest.approx(-beta * seen[0]["entropy"], rel=1e-5)
    assert seen[0]["entropy_coefficient"] == beta
    assert (seen[-1]["entropy"] > seen[0]["entropy"] + 1e-3) == (beta > 0)


def test_a_target_is_told_what_each_update_saw() -> None:
    term = EntropyTerm(partial(entropy.target, goal=9.0, step=0.5, most=2.0))
    objective = PolicyObjective(losses.grpo, losses.token_mean, penalties={"entropy": term})
    trainer = make_trainer(objective=objective)
    batch = make_batch(trainer)
    assert [trainer.update(batch)["entropy_coefficient"] for _ in range(6)] == pytest.approx([0, 0.5, 1, 1.5, 2, 2])
