"""Tokens once, pictures many times: the table of rewards that the analysis splits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from policy.base import Policy
from rewards.combine import FailureBudget
from rewards.pool.pool import RewardPool
from rewards.pool.submission import gather
from rl.acting.engines import start_sampler
from rl.build import decoder_there, load_policy
from rl.collect import Noise, paint, sample
from rl.evaluation.variance import Table
from rl.halves.language_model import language_model
from rl.rows import read_back
from rl.trainer.answer import frozen
from rl.types import Rollout, Score
from rl.variance.arguments import VariancePlan
from rollout.seeds import group_seeds

_SEQUENCES_AT_ONCE = 64


@dataclass
class VarianceMeasurement:
    """What was found; times are medians over batches of prompts, without the first where there are more."""

    rewards: dict[int, dict[str, list[Table]]] = field(default_factory=dict)
    """Steps -> reward -> one (G, k) table per prompt, NaN where a reward failed or does not apply."""
    sequence_seconds: list[float] = field(default_factory=list)
    picture_seconds: dict[int, list[float]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Reward -> the reasons, one per picture."""

    def add(
        self, steps: int, found: Mapping[str, Sequence[Score]], shape: tuple[int, int, int], seconds: float
    ) -> None:
        """Scores of P x G x k pictures of a batch."""
        for reward, scores in found.items():
            values = np.array([np.nan if one.value is None else one.value for one in scores], np.float64)
            self.rewards.setdefault(steps, {}).setdefault(reward, []).extend(values.reshape(shape))
            self.failures.setdefault(reward, []).extend(one.failure for one in scores if one.failure is not None)
        self.picture_seconds.setdefault(steps, []).append(seconds / int(np.prod(shape)))

    def sequence_cost(self) -> float:
        """Seconds to sample one token sequence."""
        return _typical(self.sequence_seconds)

    def picture_cost(self, steps: int) -> float:
        """Seconds to paint and score one picture."""
        return _typical(self.picture_seconds[steps])


def measure(plan: VariancePlan, rewards: Future[RewardPool], advance: Callable[[int], None]) -> VarianceMeasurement:
    """``advance`` hears of each lot of finished pictures. Raises UserError on a policy, prompt, reward or window of the
    decoder's sampler that cannot be used, and if too many scores fail."""
    config = plan.config
    policy = load_policy(config)
    budget = FailureBudget(config.reward_pool.max_failed_fraction)
    roles = {name: reward.role for name, reward in config.rewards.items()}
    found = VarianceMeasurement()
    with closing(start_sampler(config, policy, list(plan.prompts))) as sampler:
        forward = frozen(language_model(config, policy), config.train)
        pool = rewards.result()
        size = max(1, _SEQUENCES_AT_ONCE // plan.group)
        for start in range(0, len(plan.prompts), size):
            batch = plan.prompts[start : start + size]
            began = time.monotonic()
            seeds = group_seeds(config.run.seed, 0, batch, plan.group)
            rollout = sample(sampler, batch, plan.group, seeds, config.rollout)
            hidden_BSD = rollout.hidden_BSD
            if hidden_BSD is None:
                hidden_BSD = read_back(forward, rollout).hidden_BSD
            found.sequence_seconds.append((time.monotonic() - began) / rollout.batch_size)
            for steps in plan.steps:
                began = time.monotonic()
                scores = _painted_and_scored(plan, policy, rollout, hidden_BSD, steps, pool)
                budget.check(scores, roles)
                shape = (len(batch), plan.group, plan.renders)
                found.add(steps, scores, shape, time.monotonic() - began)
                advance(int(np.prod(shape)))
    return found


def _painted_and_scored(
    plan: VariancePlan, policy: Policy, rollout: Rollout, hidden_BSD: Tensor, steps: int, rewards: RewardPool
) -> dict[str, list[Score]]:
    """Of P x G x k pictures, with noise that does not depend on the number of steps."""
    config = plan.config
    options = config.render.model_copy(update={"steps": steps, "renders": plan.renders})
    noise = Noise("group" if plan.design == "crossed" else "sample", config.run.seed, 0)
    name = f"variance-{steps}-{rollout.prompts[0].id}"
    with decoder_there(config, policy)():
        _, waiting = paint(policy.decoder, hidden_BSD, rollout, options, noise, rewards, name)
    return gather(waiting)


def _typical(seconds: Sequence[float]) -> float:
    return float(np.median(seconds[1:] if len(seconds) > 1 else seconds))
