"""What travels between a run and the ranks that train for it: plain values, a few kilobytes a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from rl.cluster.packed import PackedRollout
from rl.config.schema import Config
from rl.tracking.contract import NUMERICS
from rl.types import Experience, Renders, Scores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainerStart:
    """What a rank builds its part of the trainer from."""

    config: Config
    folder: str
    """In which the run was started: what relative paths mean."""
    run: str
    """Names the weight store of this start of the run."""
    room: int
    """Bytes of all weight sets that lie there at one time."""


@dataclass(frozen=True)
class Residence:
    """Where a rank's process is."""

    host: str
    pid: int
    address: str
    node: str


@dataclass(frozen=True)
class TokenLesson:
    """What is learnt from a step: tokens and log-probs, who of them counts, and advantages. No pictures."""

    step: int
    rollout: PackedRollout
    valid_B: NDArray[np.bool_]
    advantages_PG: Tensor
    numerics: float | None
    """What sampler and painter differ by, where that is known."""

    @classmethod
    def of(cls, experience: Experience, advantages_PG: Tensor) -> Self:
        packed = PackedRollout.of(experience.rollout)
        return cls(experience.step, packed, experience.scores.valid_B, advantages_PG, experience.metrics.get(NUMERICS))

    def experience(self) -> Experience:
        """As the run had it, without what nobody learns from."""
        rollout, nothing = self.rollout.rollout(), np.zeros(len(self.valid_B), np.float32)
        scores = Scores({}, nothing, self.valid_B, nothing)
        renders = Renders(np.zeros((0, 0, 0, 3), np.uint8), (), 1)
        metrics = {} if self.numerics is None else {NUMERICS: self.numerics}
        return Experience(self.step, rollout, renders, scores, None, None, rollout.version, metrics, {})


@dataclass(frozen=True)
class Learnt:
    """``version``: of the weights then; ``seconds`` by stage."""

    metrics: Mapping[str, float]
    seconds: Mapping[str, float]
    version: int
