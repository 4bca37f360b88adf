"""The painters of a cluster as one, for whoever shows pictures between two steps: evaluations, the rehearsal."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rl.cluster.ahead import paint_groups
from rl.cluster.crew import Crew
from rl.cluster.groups import joined, split
from rl.cluster.jobs import PaintJob
from rl.cluster.packed import PackedRollout
from rl.cluster.publisher import WeightPublisher
from rl.collect import Noise
from rl.config.schema import Config
from rl.types import Rollout


class CrewPainters:
    """A :class:`rl.acting.elsewhere.PaintsTokens` that paints with the newest published weights."""

    def __init__(self, crew: Crew, publisher: WeightPublisher, config: Config) -> None:
        self._crew, self._publisher, self._config = crew, publisher, config

    def paint(
        self, rollout: Rollout, noise: Noise | None, *, steps: int | None = None, renders: int | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        groups, most = split(rollout), paint_groups(self._config, rollout.group_size)
        blocks = [joined(groups[start : start + most]) for start in range(0, len(groups), most)]
        version = self._publisher.latest

        def painted(block: Rollout) -> NDArray[np.uint8]:
            job = PaintJob(0, PackedRollout.of(block), shown=noise, steps=steps, renders=renders)
            pictures: NDArray[np.uint8] = self._crew.ask(version, job, returns=2)[1]
            return pictures

        with ThreadPoolExecutor(self._crew.size) as side_by_side:
            yield from side_by_side.map(painted, blocks)
