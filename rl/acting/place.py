"""Where a run samples and paints: what it asks of such a place, and this process as one. ``rl.cluster`` is another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from policy.base import Policy
from rl.acting.elsewhere import TrainedElsewhere
from rl.acting.engines import start_sampler
from rl.algorithm.answers import component
from rl.collect import Collect
from rl.collectors import Collector, Selective, Serial
from rl.config.schema import Config
from rl.data.drawing.draws import PromptDraws
from rl.data.drawing.group_sizes import SharedOut
from rl.data.task_stream import prompt_stream
from rl.tracking.tracker import Tracker
from rl.types import Prompt
from rollout.samplers.contract import Sampler
from rollout.sync import WeightChannel, WeightSync


class Acting(Protocol):
    """Where a run samples and paints."""

    @property
    def training(self) -> TrainedElsewhere | None:
        """Where it learns as well, if that is not this process."""

    def start_sampler(self, config: Config, policy: Policy, prompts: list[Prompt], ranks: int) -> Sampler: ...

    def collector(
        self,
        config: Config,
        act: Collect,
        prompts: Sequence[Prompt],
        draws: PromptDraws | None,
        tracker: Tracker,
    ) -> Collector:
        """``draws``: where what was scored has a say in which prompts come; ``tracker``: hears how workers fare."""

    def weights_out(self, config: Config, sampler: Sampler, tolerance: float) -> WeightChannel:
        """Into ``sampler`` and whoever else follows; ``tolerance`` in nats."""


class ActingHere:
    """In this process, in turn with the updates."""

    training: TrainedElsewhere | None = None

    def start_sampler(self, config: Config, policy: Policy, prompts: list[Prompt], ranks: int) -> Sampler:
        return start_sampler(config, policy, prompts, ranks)

    def collector(
        self,
        config: Config,
        act: Collect,
        prompts: Sequence[Prompt],
        draws: PromptDraws | None,
        tracker: Tracker,
    ) -> Collector:
        return start_collector(config, act, prompts, draws)

    def weights_out(self, config: Config, sampler: Sampler, tolerance: float) -> WeightChannel:
        enabled, asleep = config.sync.enabled, config.rollout.sleep > 0
        return WeightSync([sampler], tolerance=tolerance, enabled=enabled, asleep=asleep)


def start_collector(config: Config, act: Collect, prompts: Sequence[Prompt], draws: PromptDraws | None) -> Collector:
    per_step, seed, groups = config.data.prompts_per_step, config.run.seed, config.groups
    if draws is None:
        return Serial(act, prompt_stream(config.data, prompts, seed), seed)
    return Selective(act, draws, seed, per_step, groups.most_prompts(per_step), shared_out(config))


def shared_out(config: Config) -> SharedOut | None:
    """How a step's samples are, where not all prompts get as many."""
    groups = config.groups
    if groups.sizes is None:
        return None
    return SharedOut(component("group_sizes", groups.sizes), groups.unit, config.rollout.group_size)
