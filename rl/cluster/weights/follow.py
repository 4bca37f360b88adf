"""A published set into whoever works with it, and the proof that it does."""

from __future__ import annotations

from collections.abc import Mapping

from policy.trainable import WeightStream
from rl.cluster.weights.base import BaseWeights
from rl.cluster.weights.merge import AdaptersBeside, MergedPart
from rl.cluster.weights.sets import WeightSet
from rollout.proof import PublishedSums, prove
from rollout.sync import Follower, WeightSync
from rollout.weights import SyncError

Adapted = type[MergedPart] | type[AdaptersBeside]


def load_into(
    follower: Follower,
    found: WeightSet,
    *,
    tolerance: float,
    bases: Mapping[str, BaseWeights] | None = None,
    adapted: Adapted = MergedPart,
) -> float:
    """All parts of the set that the follower follows: loaded, proved by exact sums, then asked the set's canaries.

    ``bases``: part -> the weights that adapters are for; ``adapted``: what becomes of both for this follower. Returns
    the largest difference of its answers, in the canary's unit. Raises: SyncError naming version and parameter; the
    follower must then not be asked for anything.
    """
    parts = [part for part in found.parts if part in follower.follows]
    proofs = dict[str, bool]()
    for part in parts:
        stream, published = _what_goes_in(part, found, bases or {}, adapted)
        follower.load_weights(part, stream, found.version)
        live = follower.live_sums(part)
        if live is not None:
            prove(part, live, published)
        proofs[part] = live is not None
    canary = found.canaries().get(follower.asked)
    if canary is None:
        if unproved := [part for part, proved in proofs.items() if not proved]:
            raise SyncError(
                f"weights of version {found.version}: nobody can say whether {unproved[0]} has arrived, for the set "
                f"has no canary of the kind {follower.asked!r} and the engine no parameters to be added up."
            )
        return 0.0
    return WeightSync([], tolerance=tolerance).compare(
        follower, parts[0], found.version, canary, follower.answer(canary.question)
    )


def _what_goes_in(
    part: str, found: WeightSet, bases: Mapping[str, BaseWeights], adapted: Adapted
) -> tuple[WeightStream, PublishedSums]:
    adapter = found.adapter(part)
    if adapter is None or part not in bases:
        return found.stream(part), found
    made = adapted(found, part, adapter, bases[part])
    return made.stream, made
