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
from rollout.proof import LiveSum, SentSums, prove
from rollout.weights import SyncError

_RAREST = 4.0  # nats; beyond it nothing more is allowed, or a deep model in bfloat16 could say what it likes
_NOTICEABLE = 1e-3  # of the trainer's own answers; less might be lost when weights are rounded to bfloat16


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

    def live_sums(self, part: str) -> Sequence[LiveSum] | None:
        """Of every parameter of a part; ``None`` where the engine has laid its weights out in a way of its own."""

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


class WeightChannel(Protocol):
    """How new weights reach their followers, as whoever trains them sees it."""

    def following(self, part: str) -> Sequence[object]:
        """Who takes the weights of a part."""

    def wants_before(self, part: str) -> bool:
        """Whether the next push is to come with the canaries of before the update."""

    def push(
        self,
        part: str,
        weights: WeightStream,
        version: int,
        canaries: Mapping[str, Canary],
        before: Mapping[str, Canary] | None = None,
    ) -> float | None:
        """Returns the largest difference of the followers' answers; ``None`` where they are asked later."""


class WeightSync:
    """Pushes versions of weights to followers. ``tolerance`` in the answer's unit; 1e-3 nats suit fp32.

    An answer x may be off by ``tolerance`` times |x|, at least 1 and at most 4: rounding moves the log-prob of a rare
    token more, in proportion to it. With the embedded model in bfloat16, trained for 30 steps without an anchor,
    differences came to .012 nats above -.1, .08 between -1 and -2 and .25 between -4 and -6; over max(1, |x|) that is
    at most .064.

    In bfloat16 a deep model's answers differ by more than an update moves them, and stale weights would pass. So a part
    is compared with itself as well, until it has once been seen to move with the trainer: whatever is rounded away, an
    engine that has new weights does not repeat its old answer to the last bit. One that sleeps during the update can't
    be asked before; what it then computes with is added up, every bit of it, and compared with what was sent.
    """

    def __init__(
        self, followers: Sequence[Follower], *, tolerance: float = 1e-3, enabled: bool = True, asleep: bool = False
    ) -> None:
        """``asleep``: followers are when new weights come, so that asking them before would wake them up."""
        self.followers, self.tolerance, self.enabled = followers, tolerance, enabled
        self._asleep = asleep
        self._moves: set[str] = set()

    def following(self, part: str) -> list[Follower]:
        """Who takes the weights of a part."""
        return [follower for follower in self.followers if part in follower.follows]

    def wants_before(self, part: str) -> bool:
        """Whether the next push is to come with the canaries of before the update."""
        return not self._asleep and part not in self._moves

    def push(
        self,
        part: str,
        weights: WeightStream,
        version: int,
        canaries: Mapping[str, Canary],
        before: Mapping[str, Canary] | None = None,
    ) -> float:
        """Loads ``version`` of a part into all that follow it. Returns the largest difference of their answers.

        ``canaries``: one for each kind that the followers are asked; ``before``: the same questions, answered with the
        weights that the followers still have. Raises: SyncError naming the parameter (nothing touched), or naming the
        disagreement (stop the run).
        """
        following = self.following(part)
        for follower in following:
            if follower.asked not in canaries:
                raise SyncError(f"weight sync: nobody can say what {follower.asked!r} is after an update of {part!r}.")
        held = [follower.answer(before[follower.asked].question) for follower in following] if before else []
        if self.enabled:
            sent = SentSums(weights, version)
            for follower in following:
                follower.load_weights(part, weights, version)
                if self._asleep and (live := follower.live_sums(part)) is not None:
                    prove(part, live, sent)
        found = [follower.answer(canaries[follower.asked].question) for follower in following]
        differences = [
            self.compare(follower, part, version, canaries[follower.asked], answer)
            for follower, answer in zip(following, found, strict=True)
        ]
        if before:
            for follower, old, new in zip(following, held, found, strict=True):
                self._see_it_move(part, version, before[follower.asked], canaries[follower.asked], old, new)
        return max(differences, default=0.0)

    def _see_it_move(
        self, part: str, version: int, before: Canary, now: Canary, old: NDArray[np.float32], new: NDArray[np.float32]
    ) -> None:
        """``old`` and ``new``: the follower's answers. Raises: SyncError if the trainer has moved and it has not."""
        moved = float(np.abs(now.expected - before.expected).max())
        if moved <= _NOTICEABLE:
            return
        if np.array_equal(old, new):
            raise SyncError(
                f"canary of version {version}: the trainer's {now.what} have moved by up to {moved:.3g} {now.unit} and "
                "not one of the engine's has: its weights are stale, so its load_weights does not reach the model that "
                "it samples with."
            )
        self._moves.add(part)

    def compare(self, follower: Follower, part: str, version: int, canary: Canary, found: NDArray[np.float32]) -> float:
        """The largest difference of a follower's answer. Raises: SyncError naming it if it is beyond the tolerance."""
        if found.shape != canary.expected.shape:
            raise SyncError(
                f"canary of version {version}: trainer {canary.what} have shape {canary.expected.shape}, the engine's "
                f"{found.shape}; compute them for the same sequences."
            )
        apart = np.abs(found - canary.expected)
        allowed = self.tolerance * np.clip(np.abs(canary.expected), 1.0, _RAREST)
        share = apart / allowed
        if not bool((share <= 1).all()):  # NaN is a disagreement too
            worst = np.unravel_index(np.argmax(share), share.shape)
            raise SyncError(
                f"canary of version {version}: engine and trainer {canary.what} differ by {apart[worst]:.3g} "
                f"{canary.unit} (tolerance {allowed[worst]:.3g}, at {canary.expected[worst]:.3g}); "
                f"{self._likely_cause(follower, part, version, canary)}."
            )
        return float(apart.max())

    def _likely_cause(self, follower: Follower, part: str, version: int, canary: Canary) -> str:
        held = follower.versions[part]
        if held != version:
            switched_off = "" if self.enabled else " because sync.enabled is false"
            return f"the engine still holds version {held}{switched_off}: its weights are stale"
        return (
            f"the weights went in but the engine computes something else: check that the trainer's {canary.what} come "
            "from these weights at this temperature, and that sync.tolerance suits the dtype"
        )
