"""What the functions of an algorithm must keep, kind by kind: each rule is tried and answered with one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.check.rules import Finding
from rewards.load import check_options
from rl.check import decoder, inputs
from rl.check.kinds import CREDIT, KINDS, MASK, OF_SEQUENCES, plain, positional
from rl.check.trial import (
    TOLERANCE,
    Trial,
    answers,
    bound,
    differ_arrays,
    error,
    general,
    gradient,
    ok,
    penalty,
    rows_alone,
    warning,
)
from rl.config.declared import declarations
from rl.config.option_rules import wrong_values
from rl.config.schema import Component
from rl.registry import resolve
from rl.types import UserError

_PER_TOKEN = torch.ones(inputs.B, inputs.T)
_UPDATES = 1000
_FAR = 20.0  # nats between two policies: a ratio of 5e8


def findings(key: str, chosen: Component) -> Iterator[Finding]:
    """The rules in order; stops early if the answer can't be used at all. Raises UserError if it can't be loaded, or
    has not the options that it is given."""
    declared = declarations(KINDS[key], chosen.use)
    made: dict[str, Callable[[], tuple[Any, ...]]] = {
        "loss": lambda: inputs.loss(declared.sequences),
        "advantage": inputs.advantage,
        "aggregation": inputs.aggregation,
        "kl": inputs.kl,
        "kl_reference": lambda: (1,),
        "entropy": lambda: (0.0, None),
        "anchor": inputs.anchor,
        "correction": lambda: inputs.correction(declared.sequences),
        "terms": lambda: inputs.terms(declared.reference),
        "combine": inputs.combine,
        "decoder.loss": decoder.window if declared.window else decoder.pictures,
        CREDIT: decoder.renders,
    }
    if key == "decoder.loss" and (undeclared := decoder.declared_otherwise(chosen.use, declared.window)):
        yield error("declared", undeclared)
        return
    if key in OF_SEQUENCES and (undeclared := _declared_otherwise(key, chosen.use, declared.sequences)):
        yield error("declared", undeclared)
        return
    given = made[key]()
    check_options(
        resolve(KINDS[key], chosen.use),
        chosen.options,
        positional=len(given),
        options_at=f"{key}.options",
        use=chosen.use,
    )
    if wrong := wrong_values(KINDS[key], chosen):
        yield from (error("options", f"{option} {message}") for option, message in wrong.items())
        return
    trial = Trial(key, bound(key, chosen), given, vars(declared))
    first = answers(trial)
    yield first
    if first.level == "error":
        return
    yield from general(trial)
    try:
        yield from _RULES[key](trial)
    except UserError as wrong:
        yield error("answer", f"with other inputs: {wrong}")


def _declared_otherwise(key: str, use: str, sequences: bool) -> str | None:
    """What is wrong where a function takes the mask of whole samples and does not say so, or the reverse."""
    takes_mask = plain(positional(resolve(KINDS[key], use)))[-1:] == (MASK,)
    if takes_mask and not sequences:
        return (
            "it takes mask_BT, which a run gives only to a function that declares it: write @declares(sequences=True) "
            "of rl.config.declared above it"
        )
    if sequences and not takes_mask:
        return "it declares sequences=True, and must then take mask_BT as its last argument before the options"
    return None


def _loss(trial: Trial) -> Iterator[Finding]:
    _, old_BT, advantages_B, *mask = trial.inputs
    yield rows_alone(trial, lambda rows: tuple(one[rows] for one in trial.inputs), inputs.B)
    yield _direction(trial)
    answer = trial.again()
    if answer.ratio_BT.requires_grad:
        yield warning("ratio", "ratio_BT carries the gradient; it is for the log only: .detach() it")
    elif differ_arrays(answer.ratio_BT.double().numpy(), np.ones((inputs.B, inputs.T))):
        yield warning("ratio", "ratio_BT is not 1 where the two policies are the same")
    else:
        yield ok("ratio", "1 where the two policies are the same")
    for sign in (1, -1):
        far = trial.ask(old_BT.detach() + sign * _FAR, old_BT, advantages_B, *mask)
        if not far.loss_BT.isfinite().all():
            yield warning("far away", f"not finite at a ratio of e^{sign * _FAR:g}; clamp the log-ratio before exp()")
            return
    yield ok("far away", f"finite up to a ratio of e^{_FAR:g}")
    if mask:
        yield _blind(trial, 0, lambda answer: answer.loss_BT)


def _blind(trial: Trial, place: int, of: Callable[[Any], Tensor]) -> Finding:
    """Tokens after an early end, of the input at ``place``, must not reach those before it."""
    *given, _ = trial.inputs
    mask_BT, moved = inputs.early_end(), list(given)
    moved[place] = given[place].detach() - (~mask_BT).float()
    found, again = (of(trial.ask(*these, mask_BT))[mask_BT] for these in (given, moved))
    if _far(found, again):
        return error("masked", "tokens that were not sampled (mask_BT) change what the others get")
    return ok("masked", "tokens that were not sampled change nothing for the others")


def _direction(trial: Trial) -> Finding:
    """Gradient descent must make a token with a positive advantage likelier."""
    now_BT, old_BT, advantages_B, *mask = (one.clone() for one in trial.inputs)
    now_BT = now_BT.detach().requires_grad_()
    slope_BT = gradient(trial.ask(now_BT, old_BT, advantages_B, *mask).loss_BT, now_BT)
    wanted_BT = -advantages_B.unsqueeze(-1).expand_as(slope_BT)
    moving = wanted_BT != 0
    if (slope_BT[moving] == 0).all():
        return error("gradient", "0 for every token in the first update, where the ratio is 1: nothing is learnt")
    if (slope_BT * wanted_BT < 0).any():
        return error(
            "gradient", "samples with a positive advantage become less likely, or the reverse: is a minus missing?"
        )
    if (slope_BT[~moving].abs() > TOLERANCE).any():
        return warning("gradient", "samples with an advantage of 0 are moved too")
    if torch.allclose(slope_BT, wanted_BT, atol=TOLERANCE):
        return ok("gradient", "at ratio 1 it is -A for every token, that of the policy gradient")
    scale_N = slope_BT[moving] / wanted_BT[moving]
    return warning(
        "gradient", f"at ratio 1 it is {scale_N.min():.3g} to {scale_N.max():.3g} times that of the policy gradient, -A"
    )


def _advantage(trial: Trial) -> Iterator[Finding]:
    rewards_PG, valid_PG = trial.inputs
    found_PG = trial.again()
    yield _better_is_more(rewards_PG[1], found_PG[1])
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    if _far(trial.ask(rewards_PG[:, order], valid_PG[:, order]), found_PG[:, order]):
        yield error("order", "samples in another order get other advantages")
    else:
        yield ok("order", "the order of a group's samples changes nothing")
    if trial.declared["across_prompts"]:
        yield ok("groups", "declared to compare samples of different prompts: across_prompts")
    elif _far(trial.ask(rewards_PG[1:2], valid_PG[1:2]), found_PG[1:2]):
        yield error(
            "groups",
            "a prompt's advantages depend on other prompts' rewards: compare inside each row, or declare it with "
            "@declares(across_prompts=True) of rl.config.declared",
        )
    else:
        yield ok("groups", "a group alone gets the same advantages")
        yield from _inside_groups(found_PG)


def _inside_groups(found_PG: Tensor) -> Iterator[Finding]:
    if found_PG[2].abs().max() > TOLERANCE:
        yield warning("equal", "a group whose rewards are all equal is moved, though no sample was better")
    else:
        yield ok("equal", "a group whose rewards are all equal gets zeros")
    if (middle := found_PG[1].mean().item()) > TOLERANCE or middle < -TOLERANCE:
        yield warning("centre", f"a group's advantages have a mean of {middle:.3g}, not 0: the whole group is pushed")
    else:
        yield ok("centre", "a group's advantages have a mean of 0")


def _better_is_more(rewards_G: Tensor, found_G: Tensor) -> Finding:
    steps = found_G[rewards_G.argsort()].diff()
    if (steps < -TOLERANCE).any():
        return error("ranking", "a sample with a higher reward gets a lower advantage: is the sign right?")
    if (steps.abs() <= TOLERANCE).all():
        return error("ranking", "all samples of a group get the same advantage, whatever their rewards")
    return ok("ranking", "a higher reward never gets a lower advantage")


def _aggregation(trial: Trial) -> Iterator[Finding]:
    (mask_BT,) = trial.inputs
    trial.ask(torch.zeros_like(mask_BT))  # looked at: no sample has a reward
    yield ok("no rewards", "finite where no sample has a reward")
    total, whole = trial.again().sum().item(), trial.ask(torch.ones_like(mask_BT)).sum().item()
    told = f"the weights add up to {whole:.3g} over a whole batch, to {total:.3g} where tokens are masked"
    yield ok("sum", told) if abs(whole - 1) < 1e-3 else warning("sum", f"{told}: it scales the learning rate")
    rows = torch.tensor([4, 0, 5, 2, 1, 3])
    if _far(trial.ask(mask_BT[rows]), trial.again()[rows]):
        yield error("order", "samples in another order get other weights")
    else:
        yield ok("order", "the order of the samples changes nothing")


def _kl(trial: Trial) -> Iterator[Finding]:
    now_BT, reference_BT = trial.inputs
    yield from penalty(trial, lambda rows: tuple(one[rows] for one in trial.inputs), _PER_TOKEN)
    yield _zero_at(trial, trial.ask(reference_BT.clone().requires_grad_(), reference_BT))
    slope_BT = gradient(trial.ask(now_BT, reference_BT).loss, now_BT)
    if (slope_BT * (now_BT - reference_BT) < 0).any():
        yield warning("direction", "for some tokens its gradient leads away from the reference: it does not hold there")
    else:
        yield ok("direction", "its gradient never leads away from the reference")


def _kl_reference(trial: Trial) -> Iterator[Finding]:
    moved = sum(trial.ask(update) < 1 for update in range(1, _UPDATES + 1))
    if trial.declared["fixed"] and moved:
        yield error(
            "fixed", "it declares fixed=True, so a run keeps no copy that could move, and it moves the reference"
        )
    elif not moved and not trial.declared["fixed"]:
        yield warning(
            "fixed", f"never moves in {_UPDATES} updates: a run keeps a copy for nothing; take kl_reference: fixed"
        )
    else:
        yield ok("share", f"from 0 to 1 in each of {_UPDATES} updates; the reference moves in {moved}")


def _entropy(trial: Trial) -> Iterator[Finding]:
    few, many = trial.ask(0.001, 0.01), trial.ask(0.001, 10.0)
    if few.applied < many.applied or few.kept < many.kept:
        yield error("direction", "a policy with less entropy gets the smaller coefficient")
    else:
        yield ok("direction", "a policy with less entropy never gets a smaller coefficient")
    kept = 0.001
    for _ in range(_UPDATES):
        kept = trial.ask(kept, 0.01).kept
    yield ok("bounded", f"{kept:.3g} after {_UPDATES} updates with hardly any entropy")


def _anchor(trial: Trial) -> Iterator[Finding]:
    connector, _, reference_BSD = trial.inputs
    yield from penalty(trial, lambda rows: (connector, *(one[rows] for one in trial.inputs[1:])), _PER_TOKEN)
    yield _zero_at(trial, trial.ask(connector, reference_BSD.clone().requires_grad_(), reference_BSD))


def _terms(trial: Trial) -> Iterator[Finding]:
    outputs, rows = trial.inputs

    def take(chosen: Any) -> tuple[Any, ...]:
        columns = {name: None if value is None else value[chosen] for name, value in vars(outputs).items()}
        return replace(outputs, **columns), rows.take(chosen)

    yield from penalty(trial, take, _PER_TOKEN)
    total = trial.ask(*trial.inputs).loss.sum()
    policy = [outputs.logprobs_BT, outputs.hidden_BSD, outputs.entropy_BT]
    reached = torch.autograd.grad(total, policy, allow_unused=True)
    names = [
        name
        for name, found in zip(("logprobs_BT", "hidden_BSD", "entropy_BT"), reached, strict=True)
        if found is not None
    ]
    yield (
        ok("gradient", f"reaches {' and '.join(names)}")
        if names
        else error("gradient", "reaches nothing of the policy")
    )


def _zero_at(trial: Trial, answer: Any) -> Finding:
    worst = answer.loss.abs().max().item()
    if worst > TOLERANCE:
        return warning("zero", f"{worst:.3g} where policy and reference are the same, not 0")
    return ok("zero", "0 where policy and reference are the same")


def _correction(trial: Trial) -> Iterator[Finding]:
    train_BT, rollout_BT, *mask = trial.inputs
    yield rows_alone(trial, lambda rows: tuple(one[rows] for one in trial.inputs), inputs.B)
    same_BT = trial.ask(train_BT, train_BT, *mask).weights_BT
    if _far(same_BT, torch.ones_like(same_BT)):
        yield warning("same", "the weights are not 1 where engine and trainer agree: the loss is scaled")
    else:
        yield ok("same", "1 where engine and trainer agree")
    if trial.ask(train_BT.clone().requires_grad_(), rollout_BT, *mask).weights_BT.requires_grad:
        yield error("gradient", "the weights carry a gradient; they weigh the loss and must not be trained: .detach()")
    else:
        yield ok("gradient", "the weights carry none")
    if mask:
        yield _blind(trial, 0, lambda answer: answer.weights_BT)


def _combine(trial: Trial) -> Iterator[Finding]:
    values_KB, applies_KB, weights_K, group_B = trial.inputs
    found_B = np.asarray(trial.again())
    order = np.array([2, 0, 1, 5, 3, 4])
    moved_B = np.asarray(trial.ask(values_KB[:, order], applies_KB[:, order], weights_K, group_B[order]))
    if differ_arrays(moved_B, found_B[order]):
        yield error("order", "samples in another order get other totals")
    else:
        yield ok("order", "the order of the samples changes nothing")
    higher_KB = values_KB.copy()
    higher_KB[:, 1] += 0.05
    raised = np.asarray(trial.ask(higher_KB, applies_KB, weights_K, group_B))[1] - found_B[1]
    if raised <= 0:
        yield error("direction", "a sample whose rewards all rise gets no higher total, with weights above 0")
    else:
        yield ok("direction", "a sample whose rewards all rise gets a higher total")
    hidden_KB = np.where(applies_KB, values_KB, 7.0)
    if differ_arrays(np.asarray(trial.ask(hidden_KB, applies_KB, weights_K, group_B)), found_B):
        yield error("not applicable", "a reward that does not apply to a sample changes its total: look at applies_KB")
    else:
        yield ok("not applicable", "a reward that does not apply to a sample changes nothing")


def _far(one: Tensor, other: Tensor) -> bool:
    return differ_arrays(one.detach().double().numpy(), other.detach().double().numpy())


_RULES: dict[str, Callable[[Trial], Iterator[Finding]]] = {
    "loss": _loss,
    "advantage": _advantage,
    "aggregation": _aggregation,
    "kl": _kl,
    "kl_reference": _kl_reference,
    "entropy": _entropy,
    "anchor": _anchor,
    "terms": _terms,
    "correction": _correction,
    "combine": _combine,
    "decoder.loss": decoder.loss,
    CREDIT: decoder.advantages,
}
