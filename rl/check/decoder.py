"""What the decoder's losses and advantages must keep, and small inputs for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from policy.flow.steps import cps_step
from rewards.check.rules import Finding
from rl.algorithm.terms import Term
from rl.check.inputs import ADVANTAGES, B, advantage
from rl.check.kinds import ON_WINDOW, plain, positional
from rl.check.trial import TOLERANCE, Trial, differ, error, flat, gradient, ok, penalty, warning
from rl.registry import resolve

_LATENT = (2, 3, 3)
_FAR = 20.0  # of numbers that are about 1
_STEPS = (cps_step(1.0, 0.75, eta=0.7), cps_step(0.75, 0.5, eta=0.7))


def pictures() -> tuple[Tensor, ...]:
    """The first update on finished pictures: the decoder is the one that painted."""
    generator = torch.Generator().manual_seed(12)
    flow = torch.randn(B, *_LATENT, generator=generator)
    target = flow + 0.5 * torch.randn(B, *_LATENT, generator=generator)
    t_N = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.75, 0.5])
    return flow.clone().requires_grad_(), flow, target, t_N, torch.tensor(ADVANTAGES)


def window() -> tuple[Any, ...]:
    """The same on the first of two stochastic steps."""
    generator = torch.Generator().manual_seed(13)
    mean = torch.randn(B, *_LATENT, generator=generator)
    drawn = mean + _STEPS[0].std * torch.randn(B, *_LATENT, generator=generator)
    return _STEPS, 0, drawn, mean.clone().requires_grad_(), mean, torch.tensor(ADVANTAGES)


def renders() -> tuple[Tensor, ...]:
    """Four token sequences with six renders, which score as four prompts with six samples do."""
    return advantage()


def declared_otherwise(use: str, window: bool) -> str | None:
    """What is wrong where a loss takes the steps of a window and does not say so, or the reverse."""
    takes_steps = plain(positional(resolve("decoder_losses", use))) == ON_WINDOW
    if takes_steps and not window:
        return (
            "it takes the steps of a window, which a run gives only to a loss that declares it: write "
            "@declares(window=True) of rl.config.declared above it"
        )
    if window and not takes_steps:
        return (
            f"it declares window=True, and must then take ({', '.join(ON_WINDOW)}); options are keyword-only, after *"
        )
    return None


def loss(trial: Trial) -> Iterator[Finding]:
    yield from penalty(trial, lambda rows: _taken(trial, rows), torch.ones(B))
    yield from _direction(trial)
    yield _ratio(trial.again())
    yield _far_away(trial)
    if trial.declared["window"]:
        steps, _, *rows = trial.inputs
        trial.ask(steps, len(steps) - 1, *rows)  # looked at: the window's last step
        yield ok("steps", "answers for every step of the window")


def _taken(trial: Trial, rows: Any) -> tuple[Any, ...]:
    """Steps and index are of all rows."""
    shared = 2 if trial.declared["window"] else 0
    return *trial.inputs[:shared], *(one[rows] for one in trial.inputs[shared:])


def _moved(trial: Trial, by: float) -> tuple[Any, ...]:
    """The decoder of now away from the one that painted; the gradient begins there."""
    place = 3 if trial.declared["window"] else 0
    now = (trial.inputs[place].detach() + by).requires_grad_()
    return *trial.inputs[:place], now, *trial.inputs[place + 1 :]


def _direction(trial: Trial) -> Iterator[Finding]:
    """Gradient descent must lead to pictures with a positive advantage."""
    given = _moved(trial, 0.0)
    now, to = (given[3], given[2]) if trial.declared["window"] else (given[0], given[2])
    slope = gradient(trial.ask(*given).loss, now)
    nearer_N = (-slope * (to - now.detach())).flatten(1).sum(1)
    advantages_N = given[-1]
    good_N, bad_N, others_N = advantages_N > 0, advantages_N < 0, advantages_N == 0
    if (nearer_N[good_N | bad_N] == 0).all():
        yield error(
            "gradient", "0 for every picture where old and new are the same, as in the first update: nothing is learnt"
        )
    elif (nearer_N[good_N] < 0).any():
        yield error("gradient", "leads away from pictures with a positive advantage: is a minus missing?")
    elif (nearer_N[bad_N] > TOLERANCE).any():
        yield warning("gradient", "leads to pictures with a negative advantage as well")
    else:
        yield ok("gradient", "leads to pictures with a positive advantage, and not to those with a negative one")
    if (slope[others_N].abs() > TOLERANCE).any():
        yield warning("zero", "pictures with an advantage of 0 are moved too")


def _ratio(answer: Term) -> Finding:
    """A run looks at what is shown under these names after the first update."""
    if not answer.shown.keys() & {"ratio_mean", "ratio_deviation"}:
        return ok("ratio", "shows none (ratio_mean, ratio_deviation)")
    for name, wanted in (("ratio_mean", 1.0), ("ratio_deviation", 0.0)):
        if name in answer.shown and (values := answer.shown[name].values).ne(wanted).any():
            off = (values - wanted).abs().max().item()
            return error(
                "ratio", f"{name} is off by {off:.3g} where old and new are the same; it must be exactly {wanted:g}"
            )
    return ok("ratio", "exactly 1 where old and new are the same")


def _far_away(trial: Trial) -> Finding:
    for by in (_FAR, -_FAR):
        if not trial.ask(*_moved(trial, by)).loss.isfinite().all():
            return warning("far away", f"not finite {abs(by):g} away from the decoder that painted; clamp before exp()")
    return ok("far away", f"finite up to {_FAR:g} away from the decoder that painted")


def advantages(trial: Trial) -> Iterator[Finding]:
    """Rows may share a scale, for each has few renders; what a picture is compared with is its own row. So renders that
    are all equal, and one that is alone, get 0."""
    rewards_BK, valid_BK = trial.inputs
    found_BK = trial.again()
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    steps = found_BK[1][rewards_BK[1].argsort()].diff()
    if (steps < -TOLERANCE).any():
        yield error("ranking", "a picture with a higher reward gets a lower advantage: is the sign right?")
    elif (steps.abs() <= TOLERANCE).all():
        yield error("ranking", "all pictures of a token sequence get the same advantage, whatever their rewards")
    else:
        yield ok("ranking", "a higher reward never gets a lower advantage")
    if _apart(trial.ask(rewards_BK[:, order], valid_BK[:, order]), found_BK[:, order]):
        yield error("order", "renders in another order get other advantages")
    else:
        yield ok("order", "the order of the renders changes nothing")
    if (worst := found_BK.sum(1).abs().max().item()) > TOLERANCE:
        yield error(
            "centre",
            f"the advantages of a token sequence add up to {worst:.3g}, not 0: the decoder is praised or blamed for "
            "its tokens; compare each picture with the mean of its row",
        )
    else:
        yield ok("centre", "the advantages of a token sequence add up to 0")


def _apart(one: Tensor, other: Tensor) -> bool:
    return differ(flat(one), flat(other))
