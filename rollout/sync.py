"""New weights into everything that works with a copy of them, verified after every push.

An engine that keeps stale weights still samples plausible pictures, and the run looks healthy while it learns from the
wrong policy. So each push is checked on a canary: a question whose answer the trainer has just computed (log-probs of a
few token sequences for a sampler) is put to the follower, with its own weights, and the two must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policy.trainable import WeightStream
from rollout.weights import SyncError


class Follower(Protocol):
    """Works with a copy of trained weights: a sampler, a painter, or a replica of one elsewhere."""

    follows: frozenset[str]
    """The parts whose weights it takes: ``{"ar"}``, or ``{"ar", "decoder"}``."""
    asked: str
    """The kind of canary that it answers: ``logprobs`` for a sampler, ``velocity`` for a painter."""
    versions: Mapping[str, int]
    """Part -> version of the weights it holds, as the trainer counts them; 0 are those of the policy folder."""

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        """Names and shapes are checked before anything is touched, then tensors go in one at a time.

        Raises: SyncError naming the parameter.
        """

    def answer(self, question: object) -> NDArray[np.float32]:
        """What it computes with the weights it holds. Raises: TypeError for a question of another kind."""


@dataclass(frozen=True)
class Canary:
    """A question to followers, and the trainer's answer under the weights that are being pushed.

    ``logprobs``: some ``Sequences`` and the log-probs of their tokens, (B, T) in nats.
    """

    question: object
    expected: NDArray[np.float32]
    what: str = "log-probs"
    unit: str = "nats"


class WeightSync:
    """Pushes versions of weights to followers. ``tolerance`` in the answer's unit; 1e-3 nats suit fp32."""

    def __init__(self, followers: Sequence[Follower], *, tolerance: float = 1e-3, enabled: bool = True) -> None:
        self.followers, self.tolerance, self.enabled = followers, tolerance, enabled

    def following(self, part: str) -> list[Follower]:
        """Who takes the weights of a part."""
        return [follower for follower in self.followers if part in follower.follows]

    def push(self, part: str, weights: WeightStream, version: int, canaries: Mapping[str, Canary]) -> float:
        """Loads ``version`` of a part into all that follow it. Returns the largest difference of their answers.

        ``canaries``: one for each kind that the followers are asked. Raises: SyncError naming the parameter (nothing
        touched), or naming the disagreement (stop the run).
        """
        following = self.following(part)
        for follower in following:
            if follower.asked not in canaries:
                raise SyncError(f"weight sync: nobody can say what {follower.asked!r} is after an update of {part!r}.")
        if self.enabled:
            for follower in following:
                follower.load_weights(part, weights, version)
        found = (self._verify(follower, part, version, canaries[follower.asked]) for follower in following)
        return max(found, default=0.0)

    def _verify(self, follower: Follower, part: str, version: int, canary: Canary) -> float:
        found = follower.answer(canary.question)
        if found.shape != canary.expected.shape:
            raise SyncError(
                f"canary of version {version}: trainer {canary.what} have shape {canary.expected.shape}, the engine's "
                f"{found.shape}; compute them for the same sequences."
            )
        difference = float(np.abs(found - canary.expected).max())
        if not difference <= self.tolerance:  # NaN is a disagreement too
            raise SyncError(
                f"canary of version {version}: engine and trainer {canary.what} differ by up to {difference:.3g} "
                f"{canary.unit} (tolerance {self.tolerance:g}); {self._likely_cause(follower, part, version, canary)}."
            )
        return difference

    def _likely_cause(self, follower: Follower, part: str, version: int, canary: Canary) -> str:
        held = follower.versions[part]
        if held != version:
            switched_off = "" if self.enabled else " because sync.enabled is false"
            return f"the engine still holds version {held}{switched_off}: its weights are stale"
        return (
            f"the weights went in but the engine computes something else: check that the trainer's {canary.what} come "
            "from these weights at this temperature, and that sync.tolerance suits the dtype"
        )
