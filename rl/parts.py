"""The live parts of a run, wired by ``rl.build``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from policy.base import Policy
from rewards.combine import Combination
from rewards.pool.pool import RewardPool
from rl.config.schema import Config
from rl.data.stream import PromptStream
from rl.interrupt import Interrupt
from rl.tracking.guards import Guards
from rl.tracking.tracker import Tracker
from rl.trainer.trainer import Trainer
from rl.types import Prompt
from rollout.samplers.contract import Sampler
from rollout.sync import WeightSync


@dataclass
class Run:
    """One of each; everything the loop needs."""

    config: Config
    folder: Path
    policy: Policy
    stream: PromptStream
    eval_prompts: Sequence[Prompt]
    sampler: Sampler
    sync: WeightSync
    trainer: Trainer
    rewards: RewardPool
    combination: Combination
    advantage: Callable[[Tensor, Tensor], Tensor]
    tracker: Tracker
    guards: Guards
    interrupt: Interrupt
    unproven: set[str]
    """Train rewards that nothing has shown alive yet."""
