"""What one update did, summed over micro-batches and ranks on the way."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from rl.algorithm.losses import SurrogateLoss

_SUMS = ("tokens", "loss", "policy_loss", "ratio", "clipped", "entropy", "kl", "anchor")


class UpdateStats:
    """Means are over the tokens that count in the loss (valid samples, real rows); ``loss`` and ``policy_loss`` are
    sums of already weighted tokens, so they add up to the global values.
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=device)
        # ratio max, largest |ratio - 1|; 0 is below any ratio, so an all-invalid batch reports 0.
        self._maxima = torch.zeros(2, dtype=torch.float64, device=device)
        self._has_kl = self._has_anchor = False

    @torch.no_grad()
    def add(
        self,
        weights_BT: Tensor,
        loss: Tensor,
        policy_BT: Tensor,
        surrogate: SurrogateLoss,
        entropy_BT: Tensor,
        kl_BT: Tensor | None,
        anchor_B1: Tensor | None,
    ) -> None:
        """Adds one micro-batch."""
        counts_BT = weights_BT > 0
        ratio_N = surrogate.ratio_BT[counts_BT].double()
        self._has_kl = self._has_kl or kl_BT is not None
        self._has_anchor = self._has_anchor or anchor_B1 is not None
        self._sums += torch.stack(
            [
                counts_BT.sum().double(),
                loss.double(),
                (weights_BT * policy_BT).sum().double(),
                ratio_N.sum(),
                surrogate.clipped_BT[counts_BT].sum().double(),
                entropy_BT[counts_BT].sum().double(),
                self._sums.new_zeros(()) if kl_BT is None else kl_BT[counts_BT].sum().double(),
                self._sums.new_zeros(()) if anchor_B1 is None else (anchor_B1 * counts_BT).sum().double(),
            ]
        )
        if ratio_N.numel():
            extremes = torch.stack([ratio_N.max(), (ratio_N - 1).abs().max()])
            self._maxima = torch.maximum(self._maxima, extremes)

    def reduce(self) -> dict[str, float]:
        """The metrics of the whole update, equal on every rank. A collective call."""
        dist.all_reduce(self._sums)
        dist.all_reduce(self._maxima, op=dist.ReduceOp.MAX)
        sums = dict(zip(_SUMS, self._sums.tolist(), strict=True))
        tokens = max(1.0, sums["tokens"])
        ratio_max, deviation = self._maxima.tolist()
        metrics = {
            "loss": sums["loss"],
            "policy_loss": sums["policy_loss"],
            "ratio_mean": sums["ratio"] / tokens,
            "ratio_max": ratio_max,
            "ratio_deviation": deviation,
            "clip_fraction": sums["clipped"] / tokens,
            "entropy": sums["entropy"] / tokens,
        }
        if self._has_kl:
            metrics["kl"] = sums["kl"] / tokens
        if self._has_anchor:
            metrics["anchor"] = sums["anchor"] / tokens
        return metrics
