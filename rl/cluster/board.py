"""What has come of the steps that are under way. The first result of a group wins, as in the scheduler's ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rewards.pool.submission import Submission
from rl.cluster.groups import joined, split
from rl.cluster.jobs import Painted
from rl.cluster.packed import DrawnPictures, trajectory_of
from rl.run_folder.usage import CallSpan
from rl.scheduler.work import GroupKey
from rl.types import Renders, Rollout

Submit = Callable[[GroupKey, Rollout, NDArray[np.uint8]], Submission]
"""Gives the pictures of a group to the rewards."""


@dataclass
class _Step:
    rollouts: dict[GroupKey, Rollout] = field(default_factory=dict)
    pictures: dict[GroupKey, NDArray[np.uint8]] = field(default_factory=dict)
    ways: dict[GroupKey, DrawnPictures] = field(default_factory=dict)
    seeds: dict[GroupKey, tuple[int, ...]] = field(default_factory=dict)
    waiting: dict[GroupKey, Submission] = field(default_factory=dict)
    mismatch: float | None = None
    apart: dict[GroupKey, float] = field(default_factory=dict)
    returned: dict[GroupKey, tuple[int, int]] = field(default_factory=dict)
    calls: list[CallSpan] = field(default_factory=list)


class StepBoard:
    """Group by group, what samplers and painters have made."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._steps: dict[int, _Step] = defaultdict(_Step)

    def sampled(self, keys: Sequence[GroupKey], rollout: Rollout, mismatch: float | None, call: CallSpan) -> None:
        step = self._steps[keys[0].step]
        step.calls.append(call)
        step.mismatch = mismatch
        for key, group in zip(keys, split(rollout), strict=True):
            step.rollouts.setdefault(key, group)

    def rollout(self, keys: Sequence[GroupKey]) -> Rollout:
        """That of some groups that are sampled."""
        step = self._steps[keys[0].step]
        return joined([step.rollouts[key] for key in keys])

    def painted(
        self,
        keys: Sequence[GroupKey],
        found: NDArray[np.uint8] | DrawnPictures,
        told: Painted,
        call: CallSpan,
    ) -> None:
        """What is new among them goes to the rewards at once."""
        step = self._steps[keys[0].step]
        step.calls.append(call)
        pictures = found.pictures if isinstance(found, DrawnPictures) else found
        each = len(pictures) // len(keys)
        for place, key in enumerate(keys):
            if key not in step.pictures:
                rows = slice(place * each, (place + 1) * each)
                step.pictures[key], step.seeds[key] = pictures[rows], tuple(told.seeds[rows])
                step.apart[key], step.returned[key] = told.apart[place], told.returned[place]
                if isinstance(found, DrawnPictures):
                    step.ways[key] = found.rows(rows)
                step.waiting[key] = self._submit(key, step.rollouts[key], step.pictures[key])

    def queued(self, steps: Iterable[int], groups: int) -> dict[str, int]:
        """How many of the ``groups`` of each of these steps are still to be sampled, painted, scored; what somebody is
        at work on counts. May be asked while others write here."""
        found = {"sample": 0, "paint": 0, "score": 0}
        for number in steps:
            step = self._steps.get(number, _Step())
            sampled, painted, waiting = len(step.rollouts), len(step.pictures), list(step.waiting.values())
            found["sample"] += groups - sampled
            found["paint"] += sampled - painted
            found["score"] += sum(not one.done for one in waiting)
        return found

    def take(self, keys: Sequence[GroupKey]) -> FinishedStep:
        """The step whose groups have all come through, but for those that failed; it is over."""
        step, keys = self._steps.pop(keys[0].step), sorted(keys)
        if not step.pictures:
            return FinishedStep(joined([step.rollouts[key] for key in keys]), None, (), step.mismatch, 0.0, step.calls)
        pictures = np.concatenate([step.pictures[key] for key in keys])
        rollout = joined([step.rollouts[key] for key in keys])
        seeds = tuple(seed for key in keys for seed in step.seeds[key])
        trajectory = trajectory_of([step.ways[key] for key in keys]) if step.ways else None
        renders = Renders(pictures, seeds, len(pictures) // rollout.batch_size, trajectory)
        waiting, apart = [step.waiting[key] for key in keys], [step.apart[key] for key in keys]
        came_back, looked_at = (sum(counts) for counts in zip(*(step.returned[key] for key in keys), strict=True))
        fidelity = came_back / looked_at if looked_at else None
        return FinishedStep(rollout, renders, waiting, step.mismatch, sum(apart) / len(apart), step.calls, fidelity)

    def close(self) -> None:
        """Nobody waits for the scores any more."""
        for step in self._steps.values():
            for waiting in step.waiting.values():
                waiting.cancel()
        self._steps.clear()


@dataclass(frozen=True)
class FinishedStep:
    """Sampled; painted, where there are painters, and its scores on their way."""

    rollout: Rollout
    renders: Renders | None
    """``None``: whoever trains paints."""
    waiting: Sequence[Submission]
    mismatch: float | None
    """Of the weights that it was sampled with: what the canary has found when a sampler took them."""
    apart: float
    """Mean |difference| of what samplers and painters, with the very same weights, say about its tokens; nats."""
    calls: Sequence[CallSpan]
    """Those that made it."""
    returned: float | None = None
    """Share of its tokens that came back when painters tokenised its pictures again, where they were asked to."""
