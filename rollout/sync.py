"""New weights into the sampling engine, verified: after every push the engine must compute what the trainer computes.

An engine that keeps stale weights still samples plausible pictures, and the run looks healthy while it learns from
the wrong policy. So each push is checked on a canary: a few token sequences whose log-probs the trainer has just
computed are scored by the engine, with its own weights, and the two must agree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rollout.samplers.contract import UpdatableSampler
from rollout.weights import NamedWeights, SyncError

__all__ = ["SyncError", "SyncResult", "WeightSync"]


@dataclass(frozen=True)
class SyncResult:
    """``max_delta`` and ``mean_delta`` in nats: |engine - trainer| over the canary's B x T log-probs."""

    version: int
    max_delta: float
    mean_delta: float
    load_seconds: float
    canary_seconds: float


class WeightSync:
    """Pushes versions of the weights into one engine. ``tolerance`` in nats; 1e-3 suits fp32, 0.1 bf16."""

    def __init__(self, sampler: UpdatableSampler, *, tolerance: float = 1e-3, enabled: bool = True) -> None:
        self.sampler, self.tolerance, self.enabled = sampler, tolerance, enabled

    def push(
        self,
        named_weights: NamedWeights,
        version: int,
        canary_prompt_ids: Sequence[Sequence[int]],
        canary_tokens_BT: NDArray[np.int64],
        trainer_logprobs_BT: NDArray[np.float32],
        temperature: float = 1.0,
    ) -> SyncResult:
        """Loads ``version`` and compares (B, T) log-probs. The trainer's must come from the weights being pushed.

        Raises: SyncError naming the parameter (engine untouched), or naming the disagreement (stop the run).
        """
        start = time.perf_counter()
        if self.enabled:
            self.sampler.load_weights(named_weights, version)
        loaded = time.perf_counter()
        max_delta, mean_delta = self.verify(
            version, canary_prompt_ids, canary_tokens_BT, trainer_logprobs_BT, temperature
        )
        return SyncResult(version, max_delta, mean_delta, loaded - start, time.perf_counter() - loaded)

    def verify(
        self,
        version: int,
        canary_prompt_ids: Sequence[Sequence[int]],
        canary_tokens_BT: NDArray[np.int64],
        trainer_logprobs_BT: NDArray[np.float32],
        temperature: float = 1.0,
    ) -> tuple[float, float]:
        """(max, mean) |delta| in nats. Raises: SyncError above the tolerance."""
        engine_BT = self.sampler.logprobs(canary_prompt_ids, canary_tokens_BT, temperature=temperature)
        trainer_BT = np.asarray(trainer_logprobs_BT)
        if engine_BT.shape != trainer_BT.shape:
            raise SyncError(
                f"canary of version {version}: trainer log-probs have shape {trainer_BT.shape}, the engine's "
                f"{engine_BT.shape}; compute them for the same sequences."
            )
        delta_BT = np.abs(engine_BT - trainer_BT)
        max_delta = float(delta_BT.max())
        if not max_delta <= self.tolerance:  # NaN is a disagreement too
            raise SyncError(
                f"canary of version {version}: engine and trainer log-probs differ by up to {max_delta:.3g} nats "
                f"(tolerance {self.tolerance:g}); {self._likely_cause(version)}."
            )
        return max_delta, float(delta_BT.mean())

    def _likely_cause(self, version: int) -> str:
        if self.sampler.version != version:
            switched_off = "" if self.enabled else " because sync.enabled is false"
            return f"the engine still holds version {self.sampler.version}{switched_off}: its weights are stale"
        return (
            "the weights went in but the engine computes something else: check that the trainer's log-probs come from "
            "these weights at this temperature, and that sync.tolerance suits the dtype"
        )
