"""The weights that a worker has, and its way to others.

Weights are pulled: each job names the version that it is to be done with, and a worker that has another one takes it
from the store of its machine first, which fetches what it lacks. So a worker that is new, late or has just been started
again is no special case, and nobody waits for anybody who may be dead.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Self

import torch

from policy.folder import resolve_folder
from rl.cluster.jobs import SetsThere, WorkerStart
from rl.cluster.weights.base import BaseWeights
from rl.cluster.weights.follow import Adapted, load_into
from rl.cluster.weights.merge import MergedPart
from rl.cluster.weights.sets import DamagedWeights
from rl.cluster.weights.store import WeightStore
from rl.config.schema import Config
from rl.types import UserError
from rollout.sync import Follower
from rollout.weights import SyncError

Fetch = Callable[[int, str, int, int], bytes]
"""(version, file, first byte, how many): from the machine where weights are published."""


class HeldWeights:
    """Those of ``follower``, out of ``store``. ``fetch``: ``None`` where sets are published into this very store;
    ``keeps``: how many are named at one time, so that older ones that were fetched can go."""

    def __init__(
        self,
        store: WeightStore,
        follower: Follower,
        tolerance: float,
        keeps: int,
        fetch: Fetch | None = None,
        bases: Mapping[str, BaseWeights] = MappingProxyType({}),
        adapted: Adapted = MergedPart,
    ) -> None:
        """``bases``: what adapters are for; ``adapted``: what becomes of both for this follower."""
        self.version: int | None = None
        """Of the set; ``None`` are those of the policy's folder."""
        self.mismatch: float | None = None
        """What the canary of the set has found."""
        self._store, self._keeps, self._fetch = store, keeps, fetch
        self._load_into = partial(load_into, follower, tolerance=tolerance, bases=bases, adapted=adapted)

    @classmethod
    def of(
        cls, start: WorkerStart, there: SetsThere, part: str, follower: Follower, adapted: Adapted = MergedPart
    ) -> Self:
        """Raises: UserError if adapters will come, and are for other weights than this machine's policy folder has."""
        bases = {} if there.base is None else {part: _base(start.config, part, there.base)}
        store = WeightStore.open(there.run, room=there.room)
        return cls(store, follower, start.tolerance, start.sets, there.fetch, bases, adapted)

    def hold(self, version: int | None) -> None:
        """Raises: SyncError if they can't be had whole, or the worker does not compute with them: it is of no more
        use."""
        if version is None or version == self.version:
            return
        try:
            self._load(version)
        except SyncError as error:
            if isinstance(error, DamagedWeights) and self._fetch is not None:
                self._store.drop(version)
            self._load(version)  # once more: what was damaged on the way is whole now

    def forget(self) -> None:
        """The follower has dropped them: whatever is asked next is taken anew."""
        self.version = self.mismatch = None

    def _load(self, version: int) -> None:
        self.forget()
        if (fetch := self._fetch) is not None and not self._store.has(version):
            self._store.pull(version, lambda file, start, size: fetch(version, file, start, size))
            self._store.prune(version - self._keeps)
        with self._store.load(version) as found:
            self.mismatch = self._load_into(found)
        self.version = version


def base_of(part: str, config: Config) -> BaseWeights:
    """The policy folder's, as the trainer has them under its adapters."""
    dtype = config.train.dtype if part == "ar" else config.decoder_dtype
    return BaseWeights.read(resolve_folder(config.policy.path), part, getattr(torch, dtype))


def _base(config: Config, part: str, fingerprint: int) -> BaseWeights:
    found = base_of(part, config)
    if found.fingerprint != fingerprint:
        what = "ar/" if part == "ar" else "the decoder"
        raise UserError(
            f"policy.path: {what} of {config.policy.path} on the machine {platform.node()} does not hold the weights "
            "that it holds where the run was started, and adapters are sent alone; copy the folder there anew."
        )
    return found
