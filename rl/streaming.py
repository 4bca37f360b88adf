"""Scoring while painting: whole groups go to the rewards as soon as their last picture is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rewards.pool.pool import RewardPool
from rewards.pool.submission import Submission, gather
from rl.types import Rollout, Sample, Score
from rollout.render import Painter


class ScoringPainter:
    """A painter for ``rollout.render`` that passes its pictures on to the rewards.

    k renders of a token sequence lie side by side: picture ``i`` belongs to sample ``i // k``. The scores are those of
    scoring everything afterwards; only the time differs.
    """

    def __init__(self, painter: Painter, rewards: RewardPool, rollout: Rollout, renders: int, name: str) -> None:
        """``name`` begins the ids of the samples."""
        self._painter, self._rewards, self._rollout = painter, rewards, rollout
        self._renders, self._name = renders, name
        self._pictures: list[NDArray[np.uint8]] = []
        self._submitted = 0
        self._submissions: list[Submission] = []

    def paint(self, hidden_BSD: Tensor, seeds: Sequence[int], *, steps: int, guidance: float) -> NDArray[np.uint8]:
        pictures = self._painter.paint(hidden_BSD, seeds, steps=steps, guidance=guidance)
        self._pictures.extend(pictures)
        group = self._rollout.group_size * self._renders
        complete = len(self._pictures) // group * group
        if complete > self._submitted:
            self._submissions.append(self._rewards.submit([self._sample(i) for i in range(self._submitted, complete)]))
            self._submitted = complete
        return pictures

    def scores(self) -> dict[str, list[Score]]:
        """Waits; B * k scores per reward."""
        return gather(self._submissions)

    def _sample(self, index: int) -> Sample:
        prompt = self._rollout.prompt_of(index // self._renders)
        return Sample(f"{self._name}-{index}", prompt.id, prompt, self._pictures[index])
