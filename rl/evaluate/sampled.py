"""A policy of ours as an evaluation's pipeline: sampling, reading back and painting as in a run, no trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewards.pool.pool import RewardPool
from rl.acting.engines import start_sampler
from rl.build import load_policy, start_collecting
from rl.config.schema import Config
from rl.evaluation.evaluate import Pipeline
from rl.halves.language_model import language_model
from rl.preflight.memory.planning import settled
from rl.trainer.answer import frozen
from rl.types import Prompt, Score


@contextmanager
def sampled(config: Config, folder: Path, prompts: Sequence[Prompt], rewards: RewardPool) -> Iterator[Pipeline]:
    """The parts of a run without trainer and optimizer, started; leaving closes them. Raises UserError."""
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"path": str(folder)})})
    config = settled(config, prompts)
    policy = load_policy(config)
    with closing(start_sampler(config, policy, list(prompts))) as sampler:
        forward = frozen(language_model(config, policy), config.train)
        act = start_collecting(config, policy, sampler, forward, rewards)

        def pipeline(
            batch: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
        ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
            return act.held_out(f"eval0-{batch[0].id}", batch, samples_per_prompt, seeds, config.eval.seed)

        yield pipeline
