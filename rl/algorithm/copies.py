"""A second set of weights beside the live ones: the policy that paints, the one that is evaluated, a reference that
moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

Decay = Callable[[int], float]
"""Number of optimizer steps made -> the share of the copy that stays."""


def warmed(decay: float) -> Decay:
    """For evaluation: ``decay``, warmed up by min((1 + n) / (10 + n), decay); Flow-GRPO (arXiv 2505.05470) has .9 every
    8 steps."""
    return lambda updates: min((1 + updates) / (10 + updates), decay)


def nft_old(updates: int) -> float:
    """The policy that paints: min(.001 n, .5), nearly the live one at first; DiffusionNFT (arXiv 2509.16117), for one
    reward."""
    return min(0.001 * updates, 0.5)


def nft_old_late(updates: int) -> float:
    """The policy that paints: the live one for 75 steps, then min(.0075 (n - 75), .999); DiffusionNFT, for several
    rewards."""
    return 0.0 if updates < 75 else min(0.0075 * (updates - 75), 0.999)


def constant(decay: float) -> Decay:
    """The same after every step; 1 is a frozen reference."""
    return lambda updates: decay


class WeightCopy:
    """copy = decay copy + (1 - decay) live, in float32: in bfloat16 an average swallows steps below 2^-8 of a weight,
    and one of decay .999 never moves. ``live``: all that is trained, or adapters alone.

    ``old = WeightCopy(decoder.transformer.named_parameters(), nft_old)``; ``with old.lent(): paint(...)``.
    """

    def __init__(
        self, live: Iterable[tuple[str, Tensor]], decay: Decay, masters: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """``masters``: from a live tensor to its float32 master; ``None``: it is one."""
        self._live = dict(live)
        self._decay = decay
        self._masters = masters or (lambda live: live)
        self._copy = {name: self._master(value).clone() for name, value in self._live.items()}

    @torch.no_grad()
    def follow(self, updates: int) -> float:
        """After the optimizer's step number ``updates``; returns the decay that was applied."""
        decay = self._decay(updates)
        if decay < 1:  # or nothing would change, and masters elsewhere be gathered for nothing
            for name, value in self._live.items():
                self._copy[name].lerp_(self._master(value), 1 - decay)
        return decay

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The network computes with the copy; leaving gives it its own tensors back, untouched. No gradients inside: an
        optimizer would find them at the wrong weights."""
        own = {name: value.data for name, value in self._live.items()}
        try:
            with torch.no_grad():
                for name, value in self._live.items():
                    value.data = self._copy[name].to(value.dtype)
                yield
        finally:
            for name, value in self._live.items():
                value.data = own[name]

    def _master(self, live: Tensor) -> Tensor:
        return self._masters(live).detach().float()

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return dict(self._copy)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Raises ValueError where a checkpoint belongs to other weights."""
        apart = sorted(
            name
            for name in saved.keys() | self._copy.keys()
            if name not in saved or name not in self._copy or saved[name].shape != self._copy[name].shape
        )
        if apart:
            raise ValueError(f"the saved copy is of other weights: {', '.join(apart[:3])}")
        for name, value in saved.items():
            self._copy[name].copy_(value)
