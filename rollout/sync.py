"""New weights into everything that works with a copy of them, verified after every push.

An engine that keeps stale weights still samples plausible pictures, and the run looks healthy while it learns from the
wrong policy. So each push is checked on a canary: a question whose answer the trainer has just computed (log-probs of a
few token sequences for a sampler) is put to the follower, with its own weights, and the two must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from policy.trainable import WeightStream
from rollout.weights import SyncError

QuestionT = TypeVar("QuestionT")
AskedT = TypeVar("AskedT", contravariant=True)


class Follower(Protocol[AskedT]):
    """Works with a copy of trained weights: a sampler, a painter, or a replica of one elsewhere."""

    follows: frozenset[str]
    """The parts whose weights it takes: ``{"ar"}``, or ``{"ar", "decoder"}``."""

    @property
    def version(self) -> int:
        """Of the weights it holds, as the trainer counts them; 0 are those of the policy folder."""

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        """Names and shapes are checked before anything is touched, then tensors go in one at a time.

        Raises: SyncError naming the parameter.
        """

    def answer(self, question: AskedT) -> NDArray[np.float32]:
        """What it computes with the weights it holds."""


@dataclass(frozen=True)
class Canary(Generic[QuestionT]):
    """A question to a follower, and the trainer's answer under the weights that are being pushed.

    For samplers: some ``Sequences`` and their log-probs, (B, T) in nats.
    """

    question: QuestionT
    expected: NDArray[np.float32]


class WeightSync(Generic[QuestionT]):
    """Pushes versions of weights to followers. ``tolerance`` in the answer's unit; 1e-3 nats suit fp32, 0.1 bf16."""

    def __init__(
        self, followers: Sequence[Follower[QuestionT]], *, tolerance: float = 1e-3, enabled: bool = True
    ) -> None:
        self.followers, self.tolerance, self.enabled = followers, tolerance, enabled

    def push(self, part: str, weights: WeightStream, version: int, canary: Canary[QuestionT]) -> float:
        """Loads ``version`` of a part into all that follow it. Returns the largest difference of their answers.

        Raises: SyncError naming the parameter (nothing touched), or naming the disagreement (stop the run).
        """
        following = [follower for follower in self.followers if part in follower.follows]
        if self.enabled:
            for follower in following:
                follower.load_weights(part, weights, version)
        return max((self._verify(follower, version, canary) for follower in following), default=0.0)

    def _verify(self, follower: Follower[QuestionT], version: int, canary: Canary[QuestionT]) -> float:
        found = follower.answer(canary.question)
        if found.shape != canary.expected.shape:
            raise SyncError(
                f"canary of version {version}: trainer log-probs have shape {canary.expected.shape}, the engine's "
                f"{found.shape}; compute them for the same sequences."
            )
        difference = float(np.abs(found - canary.expected).max())
        if not difference <= self.tolerance:  # NaN is a disagreement too
            raise SyncError(
                f"canary of version {version}: engine and trainer log-probs differ by up to {difference:.3g} nats "
                f"(tolerance {self.tolerance:g}); {self._likely_cause(follower, version)}."
            )
        return difference

    def _likely_cause(self, follower: Follower[QuestionT], version: int) -> str:
        if follower.version != version:
            switched_off = "" if self.enabled else " because sync.enabled is false"
            return f"the engine still holds version {follower.version}{switched_off}: its weights are stale"
        return (
            "the weights went in but the engine computes something else: check that the trainer's log-probs come from "
            "these weights at this temperature, and that sync.tolerance suits the dtype"
        )
