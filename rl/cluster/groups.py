"""A rollout as the groups that it is made of, and groups as a rollout again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.rows import joined_features
from rl.types import Rollout


def split(rollout: Rollout) -> list[Rollout]:
    """P rollouts of one prompt each."""
    return [_group(rollout, index) for index in range(len(rollout.prompts))]


def joined(groups: Sequence[Rollout]) -> Rollout:
    """Of groups of one size, sampled in one way with the same weights."""
    first = groups[0]
    if any((one.version, one.group_size) != (first.version, first.group_size) for one in groups):
        raise ValueError(f"groups of several versions or sizes: {[(one.version, one.group_size) for one in groups]}")
    return replace(
        first,
        prompts=tuple(prompt for one in groups for prompt in one.prompts),
        prompt_ids=tuple(ids for one in groups for ids in one.prompt_ids),
        features=joined_features(groups),
        tokens_BT=np.concatenate([one.tokens_BT for one in groups]),
        logprobs_BT=np.concatenate([one.logprobs_BT for one in groups]),
        seeds=tuple(seed for one in groups for seed in one.seeds),
        mask_BT=_of_all([one.mask_BT for one in groups]),
        hidden_BSD=None,
    )


def _group(rollout: Rollout, index: int) -> Rollout:
    rows = slice(index * rollout.group_size, (index + 1) * rollout.group_size)
    cut: Callable[[NDArray[Any]], NDArray[Any]] = lambda values: values[rows]  # noqa: E731
    return replace(
        rollout,
        prompts=rollout.prompts[index : index + 1],
        prompt_ids=rollout.prompt_ids[index : index + 1],
        features=rollout.features and rollout.features[index : index + 1],
        tokens_BT=cut(rollout.tokens_BT),
        logprobs_BT=cut(rollout.logprobs_BT),
        seeds=rollout.seeds[rows],
        mask_BT=None if rollout.mask_BT is None else cut(rollout.mask_BT),
        hidden_BSD=None,
    )


def _of_all(masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.bool_] | None:
    there = [mask for mask in masks if mask is not None]
    return np.concatenate(there) if there else None
