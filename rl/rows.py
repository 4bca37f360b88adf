"""A rollout as the rows that networks are asked about and learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.types import Forward, PictureFeatures, Prompt, Rollout, Sequences


def sequences(rollout: Rollout) -> Sequences:
    """B prompts with the tokens after each."""
    tokens_BT = torch.from_numpy(rollout.tokens_BT)
    return Sequences(
        rollout.prompt_ids_per_sample(), tokens_BT, rollout.temperature, rollout.span, rollout.features_per_sample()
    )


def read_back(forward: Callable[[Sequences], Forward], rollout: Rollout) -> Forward:
    """One forward, two uses: the decoder's hidden states and the trainer-side log-probs."""
    found = forward(sequences(rollout))
    return replace(found, logprobs_BT=found.logprobs_BT.cpu(), entropy_BT=found.entropy_BT.cpu())


def joined_features(rollouts: Sequence[Rollout]) -> tuple[PictureFeatures | None, ...] | None:
    """Of their prompts, one rollout's behind the other's."""
    if all(one.features is None for one in rollouts):
        return None
    return tuple(found for one in rollouts for found in one.features or (None,) * len(one.prompts))


def logprobs_apart(logprobs_BT: NDArray[np.float32], rollout: Rollout) -> tuple[float, ...]:
    """Of each group, the mean |difference| of these log-probs and the sampler's, in nats per token."""
    apart_BT, groups = np.abs(logprobs_BT - rollout.logprobs_BT).astype(np.float64), len(rollout.prompts)
    counted_BT = np.ones_like(apart_BT) if rollout.mask_BT is None else rollout.mask_BT.astype(np.float64)
    apart_P = np.where(counted_BT > 0, apart_BT, 0.0).reshape(groups, -1).sum(-1)
    found: list[float] = (apart_P / counted_BT.reshape(groups, -1).sum(-1)).tolist()
    return tuple(found)


def by_group(values_B: NDArray, rollout: Rollout) -> Tensor:
    """(B,) -> (P, G). Groups of unequal sizes, a prompt that stands there several times in a row, are filled up with 0
    or False: what is not valid."""
    values = torch.from_numpy(values_B)
    sizes = group_sizes(rollout)
    if len(set(sizes)) < 2:
        return values.view(len(sizes), sizes[0])
    found_PG = values.new_zeros(len(sizes), max(sizes))
    found_PG[_held(sizes)] = values
    return found_PG


def per_sample(values_PG: Tensor, rollout: Rollout) -> Tensor:
    """(P, G) -> (B,), what :func:`by_group` has filled up left out."""
    sizes = group_sizes(rollout)
    return values_PG.flatten() if len(set(sizes)) < 2 else values_PG[_held(sizes)]


def group_sizes(rollout: Rollout) -> list[int]:
    """Samples of each prompt."""
    return [len(list(same)) * rollout.group_size for _, same in groupby(prompt.id for prompt in rollout.prompts)]


def group_prompts(rollout: Rollout) -> list[Prompt]:
    """One for each of these groups."""
    return [next(same) for _, same in groupby(rollout.prompts, key=lambda prompt: prompt.id)]


def _held(sizes: Sequence[int]) -> Tensor:
    return torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(-1)
