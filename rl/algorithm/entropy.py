"""A bonus on the policy's entropy, or one that holds it at a target (``entropy``): -coefficient x entropy, per token.

Pure functions ``(kept, entropy, *, options) -> Coefficient``: the coefficient of the next update, from what the last
one kept and the mean entropy per token that it saw, in nats; ``None`` before the first. The entropy is that of the
whole distribution over image tokens at the sampling temperature, and its gradient is exact, not estimated from the
tokens drawn. The coefficient is one number for a whole update, so no micro-batch, order or rank changes it; it is saved
with a checkpoint and shown as ``entropy_coefficient``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rl.algorithm.terms import Shown, Term
from rl.config.declared import declares
from rl.types import Forward, TokenBatch


class Coefficient(NamedTuple):
    """``applied`` in the next update; ``kept`` for the one after it."""

    applied: float
    kept: float


@declares(not_negative=("beta",))
def bonus(kept: float, entropy: float | None, *, beta: float = 0.001) -> Coefficient:
    """``beta``, always: A3C (arXiv 1602.01783), section 4, and PPO (arXiv 1707.06347), equation 9."""
    return Coefficient(beta, beta)


@declares(positive=("goal", "step", "most"))
def target(kept: float, entropy: float | None, *, goal: float, step: float = 0.0005, most: float = 0.02) -> Coefficient:
    """c rises by ``step`` after an update that saw less entropy than ``goal`` and falls by it after one that saw more;
    it is applied only while the entropy is at or below the goal: adaptive entropy control of Skywork-OR1 (arXiv
    2505.22312), section 3.2.5, alpha = c 1[e <= goal], from c = 0. Ours: e is of the update before (the paper measures
    the rollout first), and c stays between 0 and ``most``.
    """
    if entropy is None:
        return Coefficient(0.0, 0.0)
    moved = min(max(kept + (step if entropy < goal else -step if entropy > goal else 0.0), 0.0), most)
    return Coefficient(moved if entropy <= goal else 0.0, moved)


@dataclass
class EntropyTerm:
    """The term, and the coefficient that it carries from one update to the next."""

    rule: Callable[[float, float | None], Coefficient]
    _now: Coefficient = field(init=False)

    def __post_init__(self) -> None:
        self._now = self.rule(0.0, None)

    def __call__(self, outputs: Forward, rows: TokenBatch) -> Term:
        entropy_BT = outputs.entropy_BT
        shown_B1 = entropy_BT.new_full((len(entropy_BT), 1), self._now.applied)
        return Term(-self._now.applied * entropy_BT, {"entropy_coefficient": Shown(shown_B1)})

    def learnt(self, metrics: Mapping[str, float]) -> None:
        """After an update, on every rank alike; ``metrics``: of all ranks. What one of answers alone saw beside
        pictures does not count."""
        if "entropy" in metrics:
            self._now = self.rule(self._now.kept, metrics["entropy"])

    def state(self) -> list[float]:
        """For a checkpoint."""
        return list(self._now)

    def restore(self, state: list[float]) -> None:
        self._now = Coefficient(*state)
