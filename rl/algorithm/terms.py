"""Terms of a loss: what each adds per token, and what is shown of it.

A term that a run adds (``terms:`` in its YAML) is a function ``(outputs, rows, *, options) -> Term``; it sees what the
network answered for some rows of the batch, and those rows. What it needs of the frozen reference policy it declares:
``@declares(reference=("logprobs", "hidden"))`` of ``rl.config.declared``, or one of the two; the rows hold just that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from rl.types import Forward, TokenBatch, UserError


@dataclass(frozen=True)
class Shown:
    """One figure for the log, from detached ``values`` of shape (B, T) or (B, 1).

    ``mean``: over the tokens that count in the loss. ``sum``: weighted like the loss. ``max``: over those tokens.
    """

    values: Tensor
    how: Literal["mean", "sum", "max"] = "mean"


@dataclass(frozen=True)
class Term:
    """``loss``: (B, T), or (B, 1) where it is one for all tokens, with the gradient; ``shown``: name -> figure.

    ``Term(beta * kl_BT, {"kl": Shown(kl_BT.detach())})``
    """

    loss: Tensor
    shown: Mapping[str, Shown] = field(default_factory=dict)


MOVING = "kl_reference"
"""The part of ``reference`` that stands for the log-probs of a reference that moves, and the copy that it is."""

_KEYS = {
    "policy": "loss",
    "kl": "kl",
    "anchor": "anchor",
    "entropy": "entropy",
    "flow": "decoder.loss",
    "pull": "decoder.reference",
    "image": "supervised.losses.image",
    "text": "supervised.losses.text",
}  # of the terms that have a key of their own
LossTerm = Callable[[Forward, TokenBatch], Term]
"""A term of the language model's loss, options bound."""


@dataclass(frozen=True)
class KLTerm:
    """An estimator of ``rl.algorithm.kl``, between the policy's log-probs and those of the reference: the fixed one,
    or, with ``reference=(MOVING,)``, one that moves.
    """

    estimate: Callable[[Tensor, Tensor], Term]
    reference: tuple[str, ...] = ("logprobs",)

    def __call__(self, outputs: Forward, rows: TokenBatch) -> Term:
        held_BT = rows.moving_logprobs_BT if MOVING in self.reference else rows.reference_logprobs_BT
        return self.estimate(outputs.logprobs_BT, _present(held_BT))


@dataclass(frozen=True)
class AnchorTerm:
    """A penalty of ``rl.algorithm.anchor``, between the policy's hidden states and the reference's."""

    penalty: Callable[[Tensor, Tensor], Term]
    reference: tuple[str, ...] = ("hidden",)
    of_pictures: bool = True
    """No decoder reads the hidden states of an answer."""

    def __call__(self, outputs: Forward, rows: TokenBatch) -> Term:
        return self.penalty(outputs.hidden_BSD, _present(rows.reference_hidden_BSD))


class Control(Protocol):
    """What a term carries from one update to the next; the trainer tells it, saves it and restores it."""

    def learnt(self, metrics: Mapping[str, float]) -> None:
        """After an update, on every rank alike; ``metrics``: of all ranks."""

    def state(self) -> list[float]: ...

    def restore(self, state: list[float]) -> None: ...


def reference_of(term: LossTerm) -> tuple[str, ...]:
    """What of the reference policy a term needs."""
    found: tuple[str, ...] = getattr(_bare(term), "reference", ())
    return found


def of_pictures(term: LossTerm) -> bool:
    """Whether it is about what a decoder reads, and so about no answer in words."""
    return bool(getattr(_bare(term), "of_pictures", False))


def sampled(function: object, rows: TokenBatch) -> tuple[Tensor, ...]:
    """The further argument of a loss or a correction that compares whole samples: which tokens were sampled, (B, T)."""
    if not getattr(_bare(function), "sequences", False):
        return ()
    return (torch.ones_like(rows.tokens_BT, dtype=torch.bool) if rows.mask_BT is None else rows.mask_BT,)


def _bare(function: object) -> object:
    """Itself, where options have been bound to it, or its answers are looked at."""
    while (inner := getattr(function, "func", None)) is not None:
        function = inner
    return function


def total_loss(terms: Mapping[str, Term], weights: Tensor) -> Tensor:
    """sum(weights * (first term + second term + ...)): the rows' share of the loss of the whole batch.

    Raises: UserError if a term is of another shape, which would count it wrongly without a word.
    """
    for name, term in terms.items():
        _check(name, term, weights)
    first, *rest = (term.loss for term in terms.values())
    total = first
    for loss in rest:
        total = total + loss
    return (weights * total).sum()


def _check(name: str, term: object, weights: Tensor) -> None:
    key = _KEYS.get(name, f"terms.{name}")
    if not isinstance(term, Term):
        raise UserError(f"{key} answered {type(term).__name__}; it must be a Term of rl.algorithm.terms.")
    per_row = (len(weights), *[1] * (weights.ndim - 1))
    for what, values in [("loss", term.loss), *((key, shown.values) for key, shown in term.shown.items())]:
        if values.shape not in (weights.shape, per_row):
            per_token = f"one number per token, {tuple(weights.shape)}, or one per sample, {per_row}"
            wanted = per_token if weights.ndim > 1 else f"one number per row, {per_row}"
            raise UserError(f"{key}: {what} has shape {tuple(values.shape)}; it must be {wanted}.")


def _present(reference: Tensor | None) -> Tensor:
    if reference is None:
        raise ValueError("this term compares with the reference policy, which the batch does not hold")
    return reference
