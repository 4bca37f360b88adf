"""The stages of a step, one function each, in the order of the data flow. ``rl.loop`` tells the story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewards.combine import FailureBudget, combine, failure_counts
from rewards.golden import check_varied
from rl.algorithm.advantages import zero_std_fraction
from rl.config.schema import Config, Role
from rl.parts import Run
from rl.streaming import ScoringPainter
from rl.tracking.guards import picture_metrics, render_fidelity, token_metrics
from rl.types import Forward, Rollout, Score, Scores
from rollout.render import SeedMode, render
from rollout.seeds import group_seeds


def sample(run: Run, step: int) -> Rollout:
    """P prompts of this step -> P * G token sequences; every seed is a hash of (run seed, step, prompt, sample)."""
    options, prompts = run.config.rollout, run.stream.at(step)
    seeds = group_seeds(run.config.run.seed, step, prompts, options.group_size)
    return run.sampler.sample(
        prompts,
        options.group_size,
        seeds,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
    )


def read_back(run: Run, rollout: Rollout, *, reference: bool = True) -> tuple[Forward, Forward | None]:
    """One forward, two uses: the decoder's hidden states and the trainer-side log-probs. Then the reference's."""
    ids, tokens_BT = rollout.prompt_ids_per_sample(), torch.from_numpy(rollout.tokens_BT)
    found = run.trainer.forward(ids, tokens_BT, rollout.temperature)
    forward = replace(found, logprobs_BT=found.logprobs_BT.cpu(), entropy_BT=found.entropy_BT.cpu())
    return forward, run.trainer.reference_forward(ids, tokens_BT, rollout.temperature) if reference else None


def paint(
    run: Run, forward: Forward, rollout: Rollout, seed_mode: SeedMode, seed: int, step: int, name: str
) -> tuple[NDArray[np.uint8], ScoringPainter]:
    """(B * k, H, W, 3) pictures, k renders of each token sequence side by side; their scores are on the way."""
    options = run.config.render
    scoring = ScoringPainter(run.policy.decoder, run.rewards, rollout, options.renders, name)
    pictures = render(
        scoring,
        forward.hidden_BSD,
        rollout,
        steps=options.steps,
        guidance=options.guidance,
        seed_mode=seed_mode,
        renders=options.renders,
        run_seed=seed,
        step=step,
        micro_batch=options.micro_batch,
    )
    return pictures, scoring


def score(run: Run, rollout: Rollout, scoring: ScoringPainter) -> Scores:
    """Every reward's verdict; several renders of one token sequence are averaged."""
    renders = run.config.render.renders
    by_reward = {
        reward: [mean_score(found[start : start + renders]) for start in range(0, len(found), renders)]
        for reward, found in scoring.scores().items()
    }
    rewards = run.config.rewards
    return combine(
        by_reward,
        {reward: component.weight for reward, component in rewards.items()},
        roles(run.config),
        groups=[rollout.prompt_of(index).id for index in range(rollout.batch_size)],
        how=run.combination,
        scales={reward: component.scale for reward, component in rewards.items() if component.scale},
    )


def vet(run: Run, by_reward: Mapping[str, Sequence[Score]], *, first: bool) -> None:
    """Raises ``UserError`` if a train reward fails too often or, on the ``first`` pictures of a run, is constant."""
    FailureBudget(run.config.reward_pool.max_failed_fraction).check(by_reward, roles(run.config))
    if first:
        run.unproven = {name for name in sorted(run.unproven) if not check_varied(name, by_reward[name])}


def mean_score(renders: Sequence[Score]) -> Score:
    """One token sequence's score over its renders: failed if any failed, not applicable if none applies."""
    if len(renders) == 1:
        return renders[0]
    for one in renders:
        if one.failed:
            return one
    values = [one.value for one in renders if one.value is not None]
    passes = [one.passed for one in renders if one.passed is not None]
    return Score(_mean(values), details=renders[0].details, passed=_mean(passes))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def synchronise(run: Run, rollout: Rollout) -> dict[str, float]:
    """New weights into the live sampler, checked on the first sequences of this rollout."""
    count = min(run.config.sync.canary, rollout.batch_size)
    ids = rollout.prompt_ids_per_sample()[:count]
    tokens_BT = rollout.tokens_BT[:count]
    expected_BT = run.trainer.forward(ids, torch.from_numpy(tokens_BT), rollout.temperature).logprobs_BT
    result = run.sync.push(
        run.trainer.named_weights(),
        run.trainer.version,
        ids,
        tokens_BT,
        expected_BT.cpu().float().numpy(),
        temperature=rollout.temperature,
    )
    return {"sync_mismatch": result.max_delta, "policy_version": float(result.version)}


def describe(
    run: Run, rollout: Rollout, forward: Forward, pictures: NDArray[np.uint8], scores: Scores
) -> dict[str, float]:
    """What is logged beside the trainer's own metrics, guards included."""
    valid_B, difference_BT = scores.valid_B, forward.logprobs_BT - torch.from_numpy(rollout.logprobs_BT)
    failed = failure_counts(scores.by_reward)
    metrics = {
        "images": float(len(pictures)),
        "score": float(scores.score_B[valid_B].mean()) if valid_B.any() else float("nan"),
        "mismatch": difference_BT.abs().mean().item(),
        "zero_std_fraction": zero_std_fraction(by_group(scores.total_B, rollout), by_group(valid_B, rollout)),
        "failed_fraction": max(failed.values(), default=0) / rollout.batch_size,
    }
    metrics |= {f"failed/{reward}": float(count) for reward, count in failed.items() if count}
    metrics |= {f"restarts/{reward}": float(count) for reward, count in run.rewards.restarts.items() if count}
    metrics |= {f"recycled/{reward}": float(count) for reward, count in run.rewards.recycled.items() if count}
    for reward, found in scores.by_reward.items():
        values = [one.value for one in found if one.value is not None]
        if values:
            metrics[f"reward/{reward}"] = float(np.mean(values))
    one_each = pictures[:: len(pictures) // rollout.batch_size]
    metrics |= picture_metrics(one_each, rollout.group_size) | token_metrics(rollout.tokens_BT)
    retokenised_BT = run.policy.image_tokenizer.encode(one_each)
    return metrics | {"guard/render_fidelity": render_fidelity(rollout.tokens_BT, retokenised_BT)}


def roles(config: Config) -> dict[str, Role]:
    return {name: component.role for name, component in config.rewards.items()}


def by_group(values_B: NDArray, rollout: Rollout) -> Tensor:
    return torch.from_numpy(values_B).view(len(rollout.prompts), rollout.group_size)


def show(run: Run, step: int, rollout: Rollout, pictures: NDArray[np.uint8], scores: Scores) -> None:
    every, count = run.config.tracking.pictures_every, run.config.tracking.pictures
    if every and step % every == 0:
        shown = [index * rollout.group_size for index in range(len(rollout.prompts))][:count]
        captions = [f"{scores.score_B[index]:.2f} {rollout.prompt_of(index).text}" for index in shown]
        renders = len(pictures) // rollout.batch_size
        verdicts = [
            {"prompt": rollout.prompt_of(index).text, "tag": rollout.prompt_of(index).metadata.get("tag")}
            | {reward: asdict(found[index]) for reward, found in scores.by_reward.items()}
            for index in shown
        ]
        run.tracker.pictures(step, "train", pictures[[index * renders for index in shown]], captions, verdicts)
