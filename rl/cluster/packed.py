"""A rollout as it travels: token ids as narrow as they can be, and of the prompts their names alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rl.types import Prompt, Rollout


@dataclass(frozen=True)
class PackedRollout:
    """1.5 KB of ids a picture of 729 tokens in place of 5.8."""

    first: int
    codes_BT: NDArray[Any]
    """Ids from ``first`` on, in the smallest type that holds them."""
    rest: Rollout
    """Without tokens, hidden states, and what its prompts say."""

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        first = int(rollout.tokens_BT.min())
        codes_BT = rollout.tokens_BT - first
        nothing = np.zeros((0, 0), np.int64)
        prompts = tuple(bare(prompt) for prompt in rollout.prompts)
        rest = replace(rollout, tokens_BT=nothing, prompts=prompts, hidden_BSD=None)
        return cls(first, codes_BT.astype(np.min_scalar_type(int(codes_BT.max()))), rest)

    def rollout(self, prompts: Sequence[Prompt] | None = None) -> Rollout:
        """Of these prompts, where somebody has them."""
        tokens_BT = self.codes_BT.astype(np.int64) + self.first
        return replace(self.rest, tokens_BT=tokens_BT, prompts=tuple(prompts or self.rest.prompts))


def bare(prompt: Prompt) -> Prompt:
    """What a worker needs to know of it: no text, no metadata, no pictures."""
    return Prompt(prompt.id, "")
