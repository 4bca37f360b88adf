"""The live parts of a run, wired by ``rl.build``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from policy.base import Policy
from rl.acting.elsewhere import TrainedElsewhere
from rl.collect import Collect
from rl.collectors import Collector
from rl.config.schema import Config
from rl.data.drawing.draws import PromptDraws
from rl.decoder.views import PartViews
from rl.learn import Learns, SlowCopy
from rl.process.interrupt import Interrupt
from rl.run_folder.experience import ExperienceLog
from rl.tracking.guards.guards import Guards
from rl.tracking.tracker import Tracker
from rl.types import Collected, Prompt, Rollout

CollectedT = TypeVar("CollectedT", bound=Collected)


@dataclass
class Run(Generic[CollectedT]):
    """Everything that the loop works with, one of each."""

    config: Config
    folder: Path
    policy: Policy
    train_prompts: Sequence[Prompt]
    eval_prompts: Sequence[Prompt]
    act: Collect
    """One turn of the first half; the collector calls it for steps, the evaluation for held-out prompts."""
    collector: Collector[CollectedT]
    learner: Learns[CollectedT]
    tracker: Tracker
    guards: Guards
    interrupt: Interrupt
    draws: PromptDraws | None = None
    """Whose state goes into checkpoints; ``None`` where prompts are a function of the step."""
    experience: ExperienceLog | None = None
    """What the steps since the oldest checkpoint have learnt from, if that is kept."""
    views: PartViews | None = None
    """What an evaluation also looks at where the decoder learns."""
    slow: SlowCopy | None = None
    """The language model's slow copy, if that is what is evaluated."""
    elsewhere: TrainedElsewhere | None = None
    """Who learns and paints where this process holds no weights."""
    canary: Rollout | None = None
    """Some sequences about which followers can be asked at any time, once they have had their first weights."""
