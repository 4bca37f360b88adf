"""What an update minimises: named terms. The trainer adds up what an objective names and knows no term itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from torch import Tensor

from rl.algorithm.correction import Correction, mismatch
from rl.algorithm.entropy import EntropyTerm
from rl.algorithm.losses import SurrogateLoss
from rl.algorithm.terms import MOVING, Control, LossTerm, Shown, Term, of_pictures, reference_of, sampled
from rl.types import Forward, Rows, TokenBatch

RowsT = TypeVar("RowsT", bound=Rows)
OutputsT = TypeVar("OutputsT", contravariant=True)


class Objective(Protocol[RowsT, OutputsT]):
    """The loss of one network."""

    @property
    def reference(self) -> frozenset[str]:
        """What of the frozen reference policy a batch must hold (``logprobs``, ``hidden``), and ``moving`` of one that
        moves; nothing: none is kept."""

    @property
    def controls(self) -> Mapping[str, Control]:
        """What terms carry from one update to the next, by the term's name."""

    def prepare(self, batch: RowsT) -> RowsT:
        """The batch of all ranks with each entry's weight in the loss: denominators are those of the whole batch."""

    def referred(self, rows: RowsT, *, moving: bool = False) -> bool:
        """Whether the rows hold what the terms need of the frozen reference policy, or of the one that moves."""

    def refer(self, rows: RowsT, reference: OutputsT, *, moving: bool = False) -> RowsT:
        """The rows with what the terms need of that policy's answer about them."""

    def weights(self, rows: RowsT) -> Tensor:
        """Of prepared rows: what each entry of a term's loss is multiplied by."""

    def __call__(self, outputs: OutputsT, rows: RowsT) -> Mapping[str, Term]:
        """Name -> term for some prepared rows."""


@dataclass(frozen=True)
class PolicyObjective:
    """A policy gradient with its penalties; the advantage comes with the batch. All options are bound already."""

    surrogate: Callable[..., SurrogateLoss]  # rl.algorithm.losses
    aggregation: Callable[[Tensor], Tensor]  # rl.algorithm.losses
    correction: Callable[..., Correction] | None = None  # rl.algorithm.correction
    penalties: Mapping[str, LossTerm] = field(default_factory=dict)  # kl, anchor, entropy, and what a run adds

    @property
    def reference(self) -> frozenset[str]:
        return frozenset(part for term in self.penalties.values() for part in reference_of(term))

    def prepare(self, batch: TokenBatch) -> TokenBatch:
        mask_BT = batch.valid_B.unsqueeze(-1).expand_as(batch.tokens_BT)
        mask_BT = mask_BT if batch.mask_BT is None else mask_BT & batch.mask_BT
        return replace(batch, weights_BT=batch.weight * self.aggregation(mask_BT))

    @property
    def controls(self) -> Mapping[str, Control]:
        return {name: term for name, term in self.penalties.items() if isinstance(term, EntropyTerm)}

    def referred(self, rows: TokenBatch, *, moving: bool = False) -> bool:
        if moving:
            return MOVING not in self.reference or rows.moving_logprobs_BT is not None
        held = {"logprobs": rows.reference_logprobs_BT, "hidden": rows.reference_hidden_BSD}
        return all(held[part] is not None for part in self.reference - {MOVING})

    def refer(self, rows: TokenBatch, reference: Forward, *, moving: bool = False) -> TokenBatch:
        if moving:
            return replace(rows, moving_logprobs_BT=reference.logprobs_BT)
        return replace(
            rows,
            reference_logprobs_BT=reference.logprobs_BT if "logprobs" in self.reference else None,
            reference_hidden_BSD=reference.hidden_BSD if "hidden" in self.reference else None,
        )

    def weights(self, rows: TokenBatch) -> Tensor:
        if rows.weights_BT is None:
            raise ValueError("these rows have no weights: call prepare() on the whole batch first")
        return rows.weights_BT

    def __call__(self, outputs: Forward, rows: TokenBatch) -> Mapping[str, Term]:
        """``policy`` first, then the penalties in the order given, on answers in words without those of pictures.

        The first update on its own samples needs no forward before it: its own log-probs, detached, are the old ones,
        and the ratio is exactly 1.
        """
        if rows.old_logprobs_BT is None:
            rows = replace(rows, old_logprobs_BT=outputs.logprobs_BT.detach())
        penalties = {name: one for name, one in self.penalties.items() if rows.mask_BT is None or not of_pictures(one)}
        terms = {"policy": self._policy(outputs, rows)}
        return terms | {name: penalty(outputs, rows) for name, penalty in penalties.items()}

    def _policy(self, outputs: Forward, rows: TokenBatch) -> Term:
        old_BT = rows.old_logprobs_BT
        assert old_BT is not None  # __call__ has seen to it
        surrogate = self.surrogate(outputs.logprobs_BT, old_BT, rows.advantages_B, *sampled(self.surrogate, rows))
        loss_BT, shown = surrogate.loss_BT, mismatch(old_BT, rows.rollout_logprobs_BT)
        if self.correction is not None:
            corrected = self.correction(old_BT, rows.rollout_logprobs_BT, *sampled(self.correction, rows))
            loss_BT = loss_BT * corrected.weights_BT
            shown |= {"correction_clipped": Shown(corrected.clipped_BT)}
        ratio_BT = surrogate.ratio_BT.double()
        shown |= {
            "policy_loss": Shown(loss_BT.detach(), "sum"),
            "ratio_mean": Shown(ratio_BT),
            "ratio_max": Shown(ratio_BT, "max"),
            "ratio_deviation": Shown((ratio_BT - 1).abs(), "max"),
            "clip_fraction": Shown(surrogate.clipped_BT),
            "entropy": Shown(outputs.entropy_BT.detach()),
        }
        return Term(loss_BT, shown)
