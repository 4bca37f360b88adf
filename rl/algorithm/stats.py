"""What one update did, summed over micro-batches and ranks on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from rl.algorithm.terms import Shown, Term
from rl.types import UserError

_TOKENS, _LOSS = "tokens", "loss"


class UpdateStats:
    """The figures that the terms of a loss show. A mean is over the entries that count in the loss (valid samples,
    real rows); ``loss`` is the sum of already weighted entries, so that it adds up to the global value.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._how: dict[str, str] = {}
        self._sums: dict[str, Tensor] = {}
        self._maxima: dict[str, Tensor] = {}
        self._losses: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, weights: Tensor, loss: Tensor, terms: Mapping[str, Term]) -> None:
        """Adds one micro-batch."""
        counts = weights > 0
        self._add(_TOKENS, counts.sum())
        self._add(_LOSS, loss)
        _check_names(terms)
        for key, term in terms.items():
            self._losses[key] = self._losses.get(key, self._zero()) + (weights * term.loss).sum().double()
            for name, shown in term.shown.items():
                self._how[name] = shown.how
                if shown.how == "max":
                    self._raise(name, shown.values[counts])
                else:
                    self._add(name, _summed(shown, weights, counts))

    def reduce(self) -> dict[str, float]:
        """The metrics of the whole update, equal on every rank. A collective call."""
        sums = self._reduced(self._sums, dist.ReduceOp.SUM)
        maxima = self._reduced(self._maxima, dist.ReduceOp.MAX)
        tokens = max(1.0, sums[_TOKENS])
        metrics = {_LOSS: sums[_LOSS]}
        for name, how in self._how.items():
            metrics[name] = maxima[name] if how == "max" else sums[name] / tokens if how == "mean" else sums[name]
        return metrics

    def not_finite(self) -> list[str]:
        """The terms whose part of the loss is not finite, equal on every rank. A collective call."""
        return [
            name for name, value in self._reduced(self._losses, dist.ReduceOp.SUM).items() if not math.isfinite(value)
        ]

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums.get(name, self._zero()) + value.double()

    def _raise(self, name: str, values_N: Tensor) -> None:
        """0 is where every maximum starts: a batch without valid samples reports it."""
        before = self._maxima.get(name, self._zero())
        self._maxima[name] = torch.maximum(before, values_N.double().max()) if values_N.numel() else before

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=self._device)

    def _reduced(self, values: Mapping[str, Tensor], how: dist.ReduceOp.RedOpType) -> dict[str, float]:
        if not values:
            return {}
        together = torch.stack(list(values.values()))
        dist.all_reduce(together, op=how)
        return dict(zip(values, together.tolist(), strict=True))


class KindsOfStats:
    """Those of several kinds of rows in one update, by name: ``""`` stands without a prefix, and ``loss`` is of all."""

    def __init__(self, device: torch.device, names: Iterable[str]) -> None:
        self._by_name = {name: UpdateStats(device) for name in names}

    @property
    def kinds(self) -> list[UpdateStats]:
        return list(self._by_name.values())

    def reduce(self) -> dict[str, float]:
        """A collective call."""
        each = {name: stats.reduce() for name, stats in self._by_name.items()}
        found = {f"{name}/{key}" if name else key: value for name, one in each.items() for key, value in one.items()}
        first, *rest = (one[_LOSS] for one in each.values())
        return found | {_LOSS: first + sum(rest) if rest else first}

    def not_finite(self) -> list[str]:
        """A collective call."""
        return list(dict.fromkeys(term for stats in self.kinds for term in stats.not_finite()))


def _check_names(terms: Mapping[str, Term]) -> None:
    """Raises: UserError if two terms show figures of one name, which would be added up."""
    taken = {_TOKENS, _LOSS}
    for term, found in terms.items():
        if shared := sorted(taken & set(found.shown)):
            raise UserError(f"terms.{term} shows a figure {shared[0]!r}, a name that is taken; give it another.")
        taken |= set(found.shown)


def _summed(shown: Shown, weights: Tensor, counts: Tensor) -> Tensor:
    if shown.how == "sum":
        return (weights * shown.values).sum()
    if shown.values.shape == counts.shape:
        return shown.values[counts].sum()
    return (shown.values * counts).sum()
