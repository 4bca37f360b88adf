"""What the log says of a step before anything is learnt from it: its pictures and answers, its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rewards.combine import failure_counts
from rewards.pool.pool import RewardPool
from rl.algorithm.advantages import zero_std_fraction
from rl.answers.answering import describe_answers, is_answered
from rl.data.tasks import task_of
from rl.rows import by_group
from rl.tracking.contract import ZERO_STD
from rl.tracking.guards.agreement import GROUPS as AGREEMENT_GROUPS
from rl.tracking.guards.agreement import PREFIX as AGREEMENT
from rl.tracking.guards.agreement import agreement, values_of
from rl.tracking.guards.editing import edit_metrics
from rl.tracking.guards.pictures import Fidelity, picture_metrics, token_metrics
from rl.types import Experience, Renders, Rollout, Scores


def describe_pictures(rollout: Rollout, renders: Renders, fidelity: Fidelity) -> dict[str, float]:
    """What the guards see."""
    if is_answered(rollout):
        return describe_answers(rollout)
    one_each = renders.one_each
    metrics = picture_metrics(one_each, rollout.group_size) | token_metrics(rollout.tokens_BT)
    metrics |= edit_metrics(rollout, one_each, fidelity.tokenizer)
    return {"images": float(len(renders.pictures))} | metrics | fidelity(rollout.tokens_BT, one_each)


def describe_scores(rollout: Rollout, scores: Scores, rewards: RewardPool) -> dict[str, float]:
    """What is logged of the rewards before anything is learnt from them."""
    valid_B, failed = scores.valid_B, failure_counts(scores.by_reward)
    metrics = {
        "score": float(scores.score_B[valid_B].mean()) if valid_B.any() else float("nan"),
        "zero_std_fraction": zero_std_fraction(by_group(scores.total_B, rollout), by_group(valid_B, rollout)),
        "failed_fraction": max(failed.values(), default=0) / rollout.batch_size,
    }
    metrics |= {f"failed/{reward}": float(count) for reward, count in failed.items() if count}
    metrics |= {f"restarts/{reward}": float(count) for reward, count in rewards.restarts.items() if count}
    metrics |= {f"recycled/{reward}": float(count) for reward, count in rewards.recycled.items() if count}
    for reward, found in scores.by_reward.items():
        values = [one.value for one in found if one.value is not None]
        if values:
            metrics[f"reward/{reward}"] = float(np.mean(values))
    return metrics


def detail_means(scores: Scores, shown: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """``detail/<reward>/<detail>``, over the samples that have one."""
    found = {}
    for reward, details in shown.items():
        for detail in details:
            values = [one.details[detail] for one in scores.by_reward.get(reward, ()) if detail in one.details]
            if values:
                found[f"detail/{reward}/{detail}"] = float(np.mean(values))
    return found


def agreements(rollout: Rollout, scores: Scores, monitors: Sequence[str]) -> dict[str, float]:
    """``agreement/<monitor>``: whether what is rewarded is what it likes, in standard errors; ``agreement_groups``: in
    how many groups both vary."""
    valid_PG, total_PG = by_group(scores.valid_B, rollout), by_group(scores.total_B, rollout)
    told_PG, found = total_PG.masked_fill(~valid_PG, float("nan")).numpy(), dict[str, float]()
    for name in monitors:
        value, groups = agreement(told_PG, by_group(values_of(scores.by_reward[name]), rollout).numpy())
        found |= {f"{AGREEMENT}{name}": value, f"{AGREEMENT_GROUPS}{name}": float(groups)}
    return found


def by_task(rollout: Rollout, scores: Scores) -> dict[str, float]:
    """``score/<task>`` and ``zero_std_fraction/<task>`` where a step holds several of draw, edit and answer."""
    tasks = [task_of(prompt) for prompt in rollout.prompts]
    if len(set(tasks)) < 2:
        return {}
    found: dict[str, float] = {}
    for task in dict.fromkeys(tasks):
        rows = np.repeat([one == task for one in tasks], rollout.group_size)
        valid_B, score_B, total_B = scores.valid_B[rows], scores.score_B[rows], scores.total_B[rows]
        mine = replace(
            rollout, prompts=tuple(one for one, of in zip(rollout.prompts, tasks, strict=True) if of == task)
        )
        found[f"score/{task}"] = float(score_B[valid_B].mean()) if valid_B.any() else float("nan")
        found[f"{ZERO_STD}/{task}"] = zero_std_fraction(by_group(total_B, mine), by_group(valid_B, mine))
    return found


def of_both(experience: Experience) -> tuple[Rollout, Scores]:
    """Prompts and scores of the pictures, then of the answers, as one: to be told of together, not learnt from."""
    answers = experience.answers
    if answers is None:
        return experience.rollout, experience.scores
    first, then = experience.scores, answers.scores
    rollout = replace(experience.rollout, prompts=(*experience.rollout.prompts, *answers.rollout.prompts))
    return rollout, Scores(
        {name: [*first.by_reward[name], *then.by_reward[name]] for name in first.by_reward},
        np.concatenate([first.total_B, then.total_B]),
        np.concatenate([first.valid_B, then.valid_B]),
        np.concatenate([first.score_B, then.score_B]),
    )
