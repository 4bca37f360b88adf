"""A step of a configuration at the prices of a table: how long each call of it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rl.config.schema import Config
from rl.scheduler.work import Stage, WorkPlan
from rl.simulate.costs import CostTable

_DEADLINE, _LONGEST_USUAL = 600.0, 20.0  # seconds; and times what a call takes


@dataclass(frozen=True)
class Workload:
    """``groups`` prompts of ``group_size`` sequences, each painted ``renders`` times."""

    groups: int
    group_size: int
    renders: int
    decoder_passes: int
    """Of the decoder's network per picture: its steps, twice with guidance."""
    costs: CostTable

    @classmethod
    def of(cls, config: Config, costs: CostTable) -> Workload:
        passes = config.render.steps * (1 if config.render.guidance == 1 else 2)
        return cls(config.data.prompts_per_step, config.rollout.group_size, config.render.renders, passes, costs)

    def of_pictures(self, count: int) -> Workload:
        """With as many pictures a step, in whole groups."""
        return replace(self, groups=max(1, round(count / (self.group_size * self.renders))))

    @property
    def sequences(self) -> int:
        return self.groups * self.group_size

    @property
    def pictures(self) -> int:
        return self.sequences * self.renders

    @property
    def groups_a_call(self) -> int:
        """The most that a sampler takes."""
        return max(1, self.costs.sample_most // self.group_size)

    def sample(self, groups: float) -> float:
        return self.costs.sample_call + self.costs.sample_sequence * groups * self.group_size

    @property
    def paint(self) -> float:
        """One group."""
        each = self.costs.paint_picture + self.costs.paint_step * self.decoder_passes
        return each * self.group_size * self.renders

    @property
    def score(self) -> float:
        """One group."""
        return self.costs.score_picture * self.group_size * self.renders

    def update(self, ranks: float) -> float:
        return self.costs.update_call + self.costs.update_sequence * self.sequences / ranks

    @property
    def device_seconds(self) -> float:
        """Of all workers together, if each is busy all along and the sampler's calls are full."""
        sampled = self.groups / self.groups_a_call * self.sample(self.groups_a_call)
        return sampled + self.groups * self.paint + self.costs.update_sequence * self.sequences

    def time_shared(self, devices: int) -> float:
        """Seconds of a step where all stages take turns on the same devices, the rewards beside them."""
        waves = math.ceil(self.groups / (devices * self.groups_a_call))
        sampled = waves * self.sample(math.ceil(self.groups / (devices * waves)))
        return sampled + math.ceil(self.groups / devices) * self.paint + self.update(devices) + self.costs.switch

    def plan(self, steps: int, staleness: int, *, blocks: bool = False) -> WorkPlan:
        """What the scheduler is told; its deadlines are far above what the calls take."""

        def stage(name: str, seconds: float, most: int = 1) -> Stage:
            return Stage(name, most, max(_DEADLINE, _LONGEST_USUAL * seconds), blocks)

        stages = (
            stage("sample", self.sample(self.groups_a_call), self.groups_a_call),
            stage("paint", self.paint),
            stage("score", self.score),
        )
        deadline = max(_DEADLINE, _LONGEST_USUAL * self.update(1))
        return WorkPlan(steps, self.groups, staleness, stages, attempts=5, absence=3600.0, update_deadline=deadline)
