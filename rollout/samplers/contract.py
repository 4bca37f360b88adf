"""What a sampling engine is: one contract, two engines (vLLM and plain torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rl.process.progress import Progress
from rl.types import PictureFeatures, Prompt, Rollout, RunFailure, Span
from rollout.sync import Follower


class EngineError(RunFailure):
    """The sampling engine produced NaN, or failed in a way that it cannot be used after."""


class Sampler(Follower, Protocol):
    """Writes tokens with a copy of the language model that new weights go into while it runs."""

    progress: Progress
    """Set by the run; hears how far ``sample`` is, as often as the sampler can say."""

    @property
    def version(self) -> int:
        """Of the language model's weights."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        seeds: Sequence[int],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        span: Span | None = None,
        hidden: bool = False,
    ) -> Rollout:
        """P prompts, G samples each, B = P * G seeds (group-major) -> tokens and their log-probs.

        ``span``: what is sampled; ``None`` is a picture. ``hidden``: with the final hidden states that the decoder
        reads, if the engine has them.

        Raises: UserError on bad input (the engine is untouched), EngineError if logits are NaN or infinite.
        """

    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        tokens_BT: NDArray[np.int64],
        *,
        temperature: float = 1.0,
        span: Span | None = None,
        features: Sequence[PictureFeatures | None] | None = None,
    ) -> NDArray[np.float32]:
        """Teacher-forced log-probs (B, T) of given tokens under the engine's current weights. ``features``: of prompts
        that hold a picture as vectors."""

    def sleep(self, level: int) -> None:
        """Lends the GPU's memory to others until it is asked or gets new weights: 1, and it can be asked as it is; 2,
        and new weights must come first. Raises: UserError if it cannot.
        """

    def close(self) -> None:
        """Ends the engine and frees its memory. Twice is fine."""
