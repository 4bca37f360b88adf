"""Groups of experience, taken out and put together: a step that is sampled in several rounds is learnt from as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.algorithm.advantages import with_signal
from rl.rows import by_group, group_sizes, joined_features
from rl.tracking.contract import FAILED_PREFIX
from rl.types import Experience, Forward, Renders, Rollout, Score, Scores

_ADDED = ("images",)
_LATEST = ("restarts/", "recycled/")  # counted by the pool, since the run began


@dataclass(frozen=True)
class SampledRound:
    """What is told of a round, kept and left out: a score of what is kept alone would lie."""

    prompts: int
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, found: Experience) -> SampledRound:
        return cls(len(found.rollout.prompts), found.metrics, found.seconds)


def signal_of(experience: Experience) -> list[bool]:
    """Of each group, whether its rewards are not all equal."""
    scores, rollout = experience.scores, experience.rollout
    found: list[bool] = with_signal(by_group(scores.total_B, rollout), by_group(scores.valid_B, rollout)).tolist()
    return found


def success_of(experience: Experience, trained: Sequence[str]) -> list[float]:
    """Of each group, the share of its samples that pass, where a trained reward has a pass and a fail; else their mean
    score, within 0 and 1. What has failed does not count; a group of which nothing is left has 0."""
    scores = experience.scores
    passes = [[one.passed for one in row if one.passed is not None] for row in _rows(scores, trained)]
    values_B = [
        (sum(passed) / len(passed) if passed else min(max(float(score), 0.0), 1.0)) if valid else None
        for passed, score, valid in zip(passes, scores.score_B, scores.valid_B, strict=True)
    ]
    found, start = [], 0
    for size in group_sizes(experience.rollout):
        group = [value for value in values_B[start : start + size] if value is not None]
        found.append(sum(group) / len(group) if group else 0.0)
        start += size
    return found


def chosen(experience: Experience, groups: Sequence[int]) -> Experience:
    """The given prompts' samples alone, in that order; what was measured stays that of all."""
    places = _places_of_groups(experience.rollout)
    return _of_places(experience, [places[group] for group in groups])


def joined(rounds: Sequence[Experience], measured: Sequence[SampledRound]) -> Experience:
    """One after another, with the metrics and the seconds of all that was sampled."""
    first, scores = rounds[0], [one.scores for one in rounds]
    return replace(
        first,
        rollout=_joined_rollout([one.rollout for one in rounds]),
        renders=Renders(
            np.concatenate([one.renders.pictures for one in rounds]),
            tuple(seed for one in rounds for seed in one.renders.seeds),
            first.renders.per_sample,
        ),
        scores=Scores(
            {name: [score for one in scores for score in one.by_reward[name]] for name in scores[0].by_reward},
            np.concatenate([one.total_B for one in scores]),
            np.concatenate([one.valid_B for one in scores]),
            np.concatenate([one.score_B for one in scores]),
        ),
        forward=_joined_forward([one.forward for one in rounds]),
        reference=_joined_forward([one.reference for one in rounds]),
        metrics=_mean_metrics(measured),
        seconds=_added([one.seconds for one in measured]),
    )


def _rows(scores: Scores, trained: Sequence[str]) -> Iterable[Sequence[Score]]:
    return zip(*(scores.by_reward[name] for name in trained), strict=True)


def _places_of_groups(rollout: Rollout) -> list[range]:
    """Of each group, where in ``rollout.prompts`` it stands: a larger one stands there several times."""
    found, start = [], 0
    for size in group_sizes(rollout):
        count = size // rollout.group_size
        found.append(range(start, start + count))
        start += count
    return found


def _of_places(experience: Experience, places: Sequence[range]) -> Experience:
    rollout, renders, scores = experience.rollout, experience.renders, experience.scores
    at, size = [place for group in places for place in group], rollout.group_size
    rows = np.array([place * size + index for place in at for index in range(size)], np.int64)
    pictures = np.array([row * renders.per_sample + index for row in rows for index in range(renders.per_sample)])
    return replace(
        experience,
        rollout=replace(
            rollout,
            prompts=tuple(rollout.prompts[place] for place in at),
            prompt_ids=tuple(rollout.prompt_ids[place] for place in at),
            features=rollout.features and tuple(rollout.features[place] for place in at),
            tokens_BT=rollout.tokens_BT[rows],
            logprobs_BT=rollout.logprobs_BT[rows],
            seeds=tuple(rollout.seeds[row] for row in rows),
            mask_BT=None if rollout.mask_BT is None else rollout.mask_BT[rows],
            hidden_BSD=None if rollout.hidden_BSD is None else rollout.hidden_BSD[torch.from_numpy(rows)],
        ),
        renders=Renders(renders.pictures[pictures], tuple(renders.seeds[one] for one in pictures), renders.per_sample),
        scores=Scores(
            {name: [found[row] for row in rows] for name, found in scores.by_reward.items()},
            scores.total_B[rows],
            scores.valid_B[rows],
            scores.score_B[rows],
        ),
        forward=_taken(experience.forward, rows),
        reference=_taken(experience.reference, rows),
    )


def _taken(forward: Forward | None, rows: NDArray[np.int64]) -> Forward | None:
    at = torch.from_numpy(rows)
    return forward and Forward(forward.hidden_BSD[at], forward.logprobs_BT[at], forward.entropy_BT[at])


def _joined_rollout(rollouts: Sequence[Rollout]) -> Rollout:
    masks = [one.mask_BT for one in rollouts if one.mask_BT is not None]
    return replace(
        rollouts[0],
        prompts=tuple(prompt for one in rollouts for prompt in one.prompts),
        prompt_ids=tuple(ids for one in rollouts for ids in one.prompt_ids),
        features=joined_features(rollouts),
        tokens_BT=np.concatenate([one.tokens_BT for one in rollouts]),
        logprobs_BT=np.concatenate([one.logprobs_BT for one in rollouts]),
        seeds=tuple(seed for one in rollouts for seed in one.seeds),
        mask_BT=np.concatenate(masks) if masks else None,
        hidden_BSD=_joined([one.hidden_BSD for one in rollouts]),
    )


def _joined_forward(forwards: Sequence[Forward | None]) -> Forward | None:
    there = [one for one in forwards if one is not None]
    if not there:
        return None
    return Forward(
        torch.cat([one.hidden_BSD for one in there]),
        torch.cat([one.logprobs_BT for one in there]),
        torch.cat([one.entropy_BT for one in there]),
    )


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [one for one in tensors if one is not None]
    return torch.cat(there) if there else None


def _mean_metrics(rounds: Sequence[SampledRound]) -> dict[str, float]:
    """Counts added up, others the mean over all prompts that were sampled."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for one in rounds for name in one.metrics):
        told = [(one.metrics[name], one.prompts) for one in rounds if name in one.metrics]
        told = [(value, weight) for value, weight in told if np.isfinite(value)] or told
        if name in _ADDED or name.startswith(FAILED_PREFIX):
            found[name] = sum(value for value, _ in told)
        elif name.startswith(_LATEST):
            found[name] = told[-1][0]
        else:
            found[name] = sum(value * weight for value, weight in told) / sum(weight for _, weight in told)
    return found


def _added(seconds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in seconds for name in one)
    return {name: sum(one.get(name, 0.0) for one in seconds) for name in names}
