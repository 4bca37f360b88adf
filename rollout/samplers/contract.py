"""What a sampling engine is: one contract, two engines (vLLM and plain torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass


from rl.types import Prompt, Rollout, RunFailure
from rollout.weights import NamedWeights


class Sampler(Protocol):
    """One contract, two engines (vLLM and plain torch)."""

    @property
    def version(self) -> int: ...

    def sample(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        seeds: Sequence[int],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> Rollout: ...

    def logprobs(
        self, prompt_ids: Sequence[Sequence[int]], tokens_BT: NDArray[np.int64], *, temperature: float = 1.0
    ) -> NDArray[np.float32]:
        """Teacher-forced log-probs (B, T) of given tokens under the engine's current weights."""
        ...

    def close(self) -> None: ...


class EngineError(RunFailure):
    """The sampling engine produced NaN, or failed in a way that it cannot be used after."""


class UpdatableSampler(Sampler, Protocol):
    """A sampler that takes new weights while it runs; both engines are."""

    def load_weights(self, named: NamedWeights, version: int) -> None: ...

    def parameter_names(self) -> set[str]: ...

    def reset_cache(self) -> None: ...
