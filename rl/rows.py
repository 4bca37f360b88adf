"""A rollout as the rows that networks are asked about and learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.types import Forward, Rollout, Sequences


def sequences(rollout: Rollout) -> Sequences:
    """B prompts with the tokens after each."""
    tokens_BT = torch.from_numpy(rollout.tokens_BT)
    return Sequences(rollout.prompt_ids_per_sample(), tokens_BT, rollout.temperature, rollout.span)


def read_back(forward: Callable[[Sequences], Forward], rollout: Rollout) -> Forward:
    """One forward, two uses: the decoder's hidden states and the trainer-side log-probs."""
    found = forward(sequences(rollout))
    return replace(found, logprobs_BT=found.logprobs_BT.cpu(), entropy_BT=found.entropy_BT.cpu())


def by_group(values_B: NDArray, rollout: Rollout) -> Tensor:
    """(B,) -> (P, G)."""
    return torch.from_numpy(values_B).view(len(rollout.prompts), rollout.group_size)
