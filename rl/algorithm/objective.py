"""What an update minimises: named terms. The trainer adds up what an objective names and knows no term itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from torch import Tensor

from rl.algorithm.correction import Correction, mismatch
from rl.algorithm.losses import SurrogateLoss
from rl.algorithm.terms import LossTerm, Shown, Term, reference_of
from rl.types import Forward, Rows, TokenBatch

RowsT = TypeVar("RowsT", bound=Rows)
OutputsT = TypeVar("OutputsT", contravariant=True)


class Objective(Protocol[RowsT, OutputsT]):
    """The loss of one network."""

    @property
    def reference(self) -> frozenset[str]:
        """What of the frozen reference policy a batch must hold (``logprobs``, ``hidden``); nothing: none is kept."""

    def prepare(self, batch: RowsT) -> RowsT:
        """The batch of all ranks with each entry's weight in the loss: denominators are those of the whole batch."""

    def weights(self, rows: RowsT) -> Tensor:
        """Of prepared rows: what each entry of a term's loss is multiplied by."""

    def __call__(self, outputs: OutputsT, rows: RowsT) -> Mapping[str, Term]:
        """Name -> term for some prepared rows."""

    def describe(self, batch: RowsT) -> dict[str, float]:
        """Metrics of the batch as a whole, whatever the network answers."""


@dataclass(frozen=True)
class PolicyObjective:
    """A policy gradient with its penalties; the advantage comes with the batch. All options are bound already."""

    surrogate: Callable[[Tensor, Tensor, Tensor], SurrogateLoss]  # rl.algorithm.losses
    aggregation: Callable[[Tensor], Tensor]  # rl.algorithm.losses
    correction: Callable[[Tensor, Tensor], Correction] | None = None  # rl.algorithm.correction
    penalties: Mapping[str, LossTerm] = field(default_factory=dict)  # kl, anchor, and what a run adds

    @property
    def reference(self) -> frozenset[str]:
        return frozenset(part for term in self.penalties.values() for part in reference_of(term))

    def prepare(self, batch: TokenBatch) -> TokenBatch:
        mask_BT = batch.valid_B.unsqueeze(-1).expand_as(batch.tokens_BT)
        mask_BT = mask_BT if batch.mask_BT is None else mask_BT & batch.mask_BT
        corrected = self._correct(batch)
        return replace(
            batch,
            weights_BT=self.aggregation(mask_BT),
            correction_BT=None if corrected is None else corrected.weights_BT,
        )

    def weights(self, rows: TokenBatch) -> Tensor:
        if rows.weights_BT is None:
            raise ValueError("these rows have no weights: call prepare() on the whole batch first")
        return rows.weights_BT

    def __call__(self, outputs: Forward, rows: TokenBatch) -> Mapping[str, Term]:
        """``policy`` first, then the penalties in the order given."""
        terms = {"policy": self._policy(outputs, rows)}
        return terms | {name: penalty(outputs, rows) for name, penalty in self.penalties.items()}

    def describe(self, batch: TokenBatch) -> dict[str, float]:
        counts = batch.valid_B if batch.mask_BT is None else batch.valid_B.unsqueeze(-1) & batch.mask_BT
        metrics = mismatch(batch.old_logprobs_BT, batch.rollout_logprobs_BT, counts)
        corrected = self._correct(batch)
        if corrected is not None:
            clipped_N = corrected.clipped_BT[counts]
            metrics["correction_clipped"] = clipped_N.double().mean().item() if clipped_N.numel() else 0.0
        return metrics

    def _correct(self, batch: TokenBatch) -> Correction | None:
        return self.correction(batch.old_logprobs_BT, batch.rollout_logprobs_BT) if self.correction else None

    def _policy(self, outputs: Forward, rows: TokenBatch) -> Term:
        surrogate = self.surrogate(outputs.logprobs_BT, rows.old_logprobs_BT, rows.advantages_B)
        loss_BT = surrogate.loss_BT if rows.correction_BT is None else surrogate.loss_BT * rows.correction_BT
        ratio_BT = surrogate.ratio_BT.double()
        shown = {
            "policy_loss": Shown(loss_BT.detach(), "sum"),
            "ratio_mean": Shown(ratio_BT),
            "ratio_max": Shown(ratio_BT, "max"),
            "ratio_deviation": Shown((ratio_BT - 1).abs(), "max"),
            "clip_fraction": Shown(surrogate.clipped_BT),
            "entropy": Shown(outputs.entropy_BT),
        }
        return Term(loss_BT, shown)
