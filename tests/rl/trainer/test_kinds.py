"""Pictures and answers in one update: each is normalised over itself, then both are added with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rl.algorithm import anchor, correction, kl, losses
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import AnchorTerm, KLTerm
from rl.types import TokenBatch
from tests.rl.trainer.trainer_case import PPO, make_answers, make_batch, make_trainer, weights


def gradients(pictures: TokenBatch | None, answers: TokenBatch | None, **options: Any) -> tuple[list[Tensor], Mapping]:
    """Of one update, before clipping; and its metrics."""
    trainer = make_trainer(**options)
    found: list[Tensor] = []

    def kept() -> float:
        found.extend(torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in trainer._parameters)
        return 1.0

    trainer._step = kept  # type: ignore[method-assign]
    metrics = trainer.update(pictures, **({} if answers is None else {"answer": answers}))
    return found, metrics


@pytest.fixture(scope="module")
def kinds() -> tuple[TokenBatch, TokenBatch]:
    trainer = make_trainer()
    return make_batch(trainer), make_answers(trainer)


@pytest.mark.parametrize(("image", "text"), [(1.0, 1.0), (2.0, 0.25)])
@pytest.mark.parametrize("micro_batch", [1, 2, 64])
def test_a_mixture_is_the_weighted_sum_of_the_runs_apart(
    kinds: tuple[TokenBatch, TokenBatch], image: float, text: float, micro_batch: int
) -> None:
    """Five answers of at most two tokens move nothing of what six pictures of four tokens say."""
    pictures, answers = kinds
    alone, told = gradients(pictures, None)
    words, said = gradients(answers, None)
    weighed = replace(pictures, weight=image), replace(answers, weight=text)
    both, metrics = gradients(*weighed, micro_batch=micro_batch)
    for one, other, sum_of_both in zip(alone, words, both, strict=True):
        torch.testing.assert_close(sum_of_both, image * one + text * other, atol=1e-6, rtol=1e-5)
    assert max(float((text * other).abs().max()) for other in words) > 1e-3  # and not because there is nothing
    assert metrics["loss"] == pytest.approx(image * told["loss"] + text * said["loss"], rel=1e-5)
    assert [metrics["kl"], metrics["answer/kl"]] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert metrics["entropy"] == pytest.approx(told["entropy"], rel=1e-5)
    assert metrics["answer/entropy"] == pytest.approx(said["entropy"], rel=1e-5)


def test_an_answer_counts_by_its_own_tokens_alone(kinds: tuple[TokenBatch, TokenBatch]) -> None:
    """By hand: of five answers one is invalid and one ends at once, so that seven tokens share the weight."""
    _, answers = kinds
    prepared = PPO.prepare(replace(answers, weight=0.7)).weights_BT
    assert prepared is not None
    assert prepared[0].tolist() == pytest.approx([0.1, 0.0])
    assert prepared[1:4].flatten().tolist() == pytest.approx([0.1] * 6) and not prepared[4].any()


def test_the_order_of_rows_changes_nothing(kinds: tuple[TokenBatch, TokenBatch]) -> None:
    pictures, answers = kinds
    before, _ = gradients(pictures, answers, micro_batch=2)
    after, _ = gradients(pictures.take([5, 3, 0, 1, 4, 2]), answers.take([4, 2, 3, 0, 1]), micro_batch=2)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_an_update_of_both_is_one_step_of_the_optimizer(kinds: tuple[TokenBatch, TokenBatch]) -> None:
    pictures, answers = kinds
    trainer = make_trainer()
    trainer.update(pictures, answer=answers)
    assert trainer.version == 1
    other = make_trainer(micro_batch=2)
    other.update(pictures, answer=answers)
    for name, value in weights(trainer).items():
        torch.testing.assert_close(weights(other)[name], value, atol=2e-5, rtol=1e-3)


def test_an_anchor_holds_pictures_and_no_answers() -> None:
    connector = torch.nn.Linear(32, 4)
    term = AnchorTerm(partial(anchor.condition, connector, beta=0.3))
    penalties = {"anchor": term, "kl": KLTerm(partial(kl.k3, beta=0.01))}
    objective = PolicyObjective(losses.grpo, losses.token_mean, correction.token_tis, penalties=penalties)
    trainer = make_trainer(objective=objective)
    found = trainer.update(make_batch(trainer), answer=make_answers(trainer))
    assert "anchor" in found and "answer/kl" in found and "answer/anchor" not in found


def test_an_update_may_have_answers_left_alone(kinds: tuple[TokenBatch, TokenBatch]) -> None:
    _, found = gradients(None, kinds[1])
    assert {name for name in found if not name.startswith("answer/")} == {
        "loss", "lr", "grad_norm", "grad_rms", "adam_eps_too_large"
    }  # fmt: skip
    assert found["loss"] == found["answer/loss"]
