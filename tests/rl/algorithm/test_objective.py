"""Named terms: what they add up to, what they show, what they ask of the reference policy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist

from rl.algorithm import anchor, kl, losses
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.stats import UpdateStats
from rl.algorithm.terms import AnchorTerm, KLTerm, Shown, Term, total_loss
from rl.config.declared import declares
from rl.types import Forward, TokenBatch, UserError
from tests.rl.trainer.trainer_case import make_batch, make_trainer, weights


def batch_of(valid: list[bool]) -> TokenBatch:
    size = len(valid)
    return TokenBatch(
        prompt_ids=[(1, 2)] * size,
        tokens_BT=torch.zeros(size, 2, dtype=torch.int64),
        temperature=1.0,
        rollout_logprobs_BT=torch.zeros(size, 2),
        old_logprobs_BT=torch.zeros(size, 2),
        advantages_B=torch.arange(1.0, size + 1),
        valid_B=torch.tensor(valid),
    )


def test_a_loss_is_the_weighted_sum_of_its_terms() -> None:
    terms = {"a": Term(torch.tensor([[1.0, 2.0], [3.0, 4.0]])), "b": Term(torch.tensor([[10.0], [20.0]]))}
    weights_BT = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    assert total_loss(terms, weights_BT).item() == 0.5 * 11 + 0.5 * 12 + 24


def test_weights_are_those_of_the_whole_batch() -> None:
    objective = PolicyObjective(losses.grpo, losses.token_mean)
    prepared = objective.prepare(batch_of([True, False, True]))
    assert objective.weights(prepared).tolist() == [[0.25, 0.25], [0.0, 0.0], [0.25, 0.25]]
    assert objective.weights(prepared.take([2])).tolist() == [[0.25, 0.25]]
    with pytest.raises(ValueError, match=r"these rows have no weights: call prepare\(\) on the whole batch first"):
        objective.weights(batch_of([True]))


def test_tokens_after_an_end_weigh_nothing() -> None:
    mask_BT = torch.tensor([[True, False], [True, True], [True, True]])
    batch = replace(batch_of([True, False, True]), mask_BT=mask_BT)
    for aggregation, expected in [
        (losses.token_mean, [[1 / 3, 0.0], [0.0, 0.0], [1 / 3, 1 / 3]]),
        (losses.sequence_mean, [[1 / 2, 0.0], [0.0, 0.0], [1 / 4, 1 / 4]]),
    ]:
        objective = PolicyObjective(losses.grpo, aggregation)
        torch.testing.assert_close(objective.weights(objective.prepare(batch)), torch.tensor(expected))


def test_a_term_says_what_it_needs_of_the_reference() -> None:
    held = AnchorTerm(partial(anchor.condition, torch.nn.Identity()))
    pulled = KLTerm(partial(kl.k3, beta=0.1))

    @declares(reference=("hidden",))
    def bonus(outputs: Forward, rows: TokenBatch, *, beta: float = 0.1) -> Term:
        return Term(-beta * outputs.logprobs_BT)

    make = partial(PolicyObjective, losses.grpo, losses.token_mean)
    assert make().reference == frozenset()
    assert make(penalties={"kl": pulled}).reference == {"logprobs"}
    assert make(penalties={"kl": pulled, "anchor": held}).reference == {"logprobs", "hidden"}
    assert make(penalties={"bonus": partial(bonus, beta=0.2)}).reference == {"hidden"}
    outputs = Forward(torch.zeros(1, 3, 4), torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="compares with the reference policy, which the batch does not hold"):
        pulled(outputs, batch_of([True]))


def test_every_term_finds_the_old_logprobs_of_a_first_update() -> None:
    seen: list[torch.Tensor | None] = []

    def looks(outputs: Forward, rows: TokenBatch) -> Term:
        seen.append(rows.old_logprobs_BT)
        return Term(torch.zeros_like(outputs.logprobs_BT))

    objective = PolicyObjective(losses.grpo, losses.token_mean, penalties={"looks": looks})
    logprobs_BT = torch.full((2, 2), -1.5, requires_grad=True)
    outputs = Forward(torch.zeros(2, 3, 4), logprobs_BT, torch.zeros(2, 2))
    terms = objective(outputs, objective.prepare(replace(batch_of([True, True]), old_logprobs_BT=None)))
    assert seen[0] is not None and torch.equal(seen[0], logprobs_BT) and not seen[0].requires_grad
    assert terms["policy"].shown["ratio_deviation"].values.max() == 0


def test_one_more_term_is_added_and_shown_without_the_trainer_knowing_it() -> None:
    def pull_to_half(outputs: Forward, rows: TokenBatch, *, beta: float) -> Term:
        distance_BT = (outputs.logprobs_BT.exp() - 0.5).square()
        return Term(beta * distance_BT, {"distance": Shown(distance_BT.detach())})

    plain = PolicyObjective(losses.grpo, losses.token_mean)
    more = PolicyObjective(losses.grpo, losses.token_mean, penalties={"pull": partial(pull_to_half, beta=2.0)})
    results = []
    for objective in (plain, more):
        trainer = make_trainer(objective=objective)
        batch = make_batch(trainer)
        results.append((trainer.update(batch), weights(trainer)))
    (without, before), (with_it, after) = results
    assert with_it["loss"] == pytest.approx(without["loss"] + 2.0 * with_it["distance"], rel=1e-5)
    assert set(with_it) - set(without) == {"distance"}
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def alone() -> None:
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


@pytest.mark.usefixtures("alone")
def test_figures_by_hand() -> None:
    stats = UpdateStats(torch.device("cpu"))
    shown = {
        "mean": Shown(torch.tensor([[1.0, 2.0], [100.0, 100.0]])),
        "row": Shown(torch.tensor([[3.0], [100.0]])),
        "sum": Shown(torch.tensor([[1.0, 2.0], [100.0, 100.0]]), "sum"),
        "max": Shown(torch.tensor([[1.0, 2.0], [100.0, 100.0]]), "max"),
    }
    weights_BT = torch.tensor([[0.5, 0.25], [0.0, 0.0]])  # the second row does not count
    stats.add(weights_BT, torch.tensor(7.0), {"t": Term(torch.zeros(2, 2), shown)})
    stats.add(weights_BT * 2, torch.tensor(1.0), {"t": Term(torch.zeros(2, 2), shown)})
    found = stats.reduce()
    assert found == {"loss": 8.0, "mean": 1.5, "row": 3.0, "sum": 1.0 + 2.0, "max": 2.0}
    nothing = UpdateStats(torch.device("cpu"))
    nothing.add(torch.zeros(2, 2), torch.tensor(0.0), {"t": Term(torch.zeros(2, 2), shown)})
    assert nothing.reduce() == {"loss": 0.0, "mean": 0.0, "row": 0.0, "sum": 0.0, "max": 0.0}


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        (
            Term(torch.zeros(2)),
            r"terms.mine: loss has shape \(2,\); it must be one number per token, \(2, 3\), or one per",
        ),
        (Term(torch.zeros(2, 3), {"far": Shown(torch.zeros(3))}), r"terms.mine: far has shape \(3,\); .*\(2, 1\)"),
        (torch.zeros(2, 3), "terms.mine answered Tensor; it must be a Term of rl.algorithm.terms"),
    ],
)
def test_a_term_of_another_shape_is_refused(term: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        total_loss({"policy": Term(torch.zeros(2, 3)), "mine": term}, torch.ones(2, 3))


def test_two_figures_of_one_name_are_refused() -> None:
    shown = {"kl": Shown(torch.zeros(2, 3))}
    terms = {"kl": Term(torch.zeros(2, 3), shown), "mine": Term(torch.zeros(2, 3), shown)}
    with pytest.raises(UserError, match="terms.mine shows a figure 'kl', a name that is taken; give it another"):
        UpdateStats(torch.device("cpu")).add(torch.ones(2, 3), torch.zeros(()), terms)
