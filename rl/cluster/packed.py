"""A rollout as it travels, token ids as narrow as they can be and of the prompts names alone; and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from rl.types import Prompt, Rollout

if TYPE_CHECKING:
    from policy.flow.steps import FlowStep
    from policy.flow.walk import FlowTrajectory


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


@dataclass(frozen=True)
class DrawnPictures:
    """Pictures, and the way to each: what a painter sends where a decoder learns. Arrays, which nobody copies on their
    way through Ray's object store."""

    pictures: NDArray[np.uint8]
    latents: NDArray[np.float32]
    states: NDArray[np.float32]
    means: NDArray[np.float32]
    steps: tuple[FlowStep, ...]
    """See :class:`policy.flow.walk.FlowTrajectory`."""

    @classmethod
    def of(cls, pictures: NDArray[np.uint8], way: FlowTrajectory) -> Self:
        return cls(pictures, way.latents.numpy(), way.states.numpy(), way.means.numpy(), way.steps)

    def rows(self, which: slice) -> Self:
        """Some of the pictures."""
        told = {name: getattr(self, name)[which] for name in ("pictures", "latents", "states", "means")}
        return replace(self, **told)


def trajectory_of(parts: Sequence[DrawnPictures]) -> FlowTrajectory:
    """The ways to all their pictures, in order."""
    import torch

    from policy.flow.walk import FlowTrajectory

    whole = [np.concatenate([getattr(one, name) for one in parts]) for name in ("latents", "states", "means")]
    latents, states, means = map(torch.from_numpy, whole)
    return FlowTrajectory(latents, states, means, parts[0].steps)
