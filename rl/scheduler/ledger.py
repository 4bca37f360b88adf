"""Which groups of the open steps have come how far. Nothing gets lost here and nothing counts twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl.scheduler.work import GroupKey


@dataclass
class _OpenStep:
    reached: list[int]
    """Of each group: the stages behind it."""
    failed: dict[GroupKey, str] = field(default_factory=dict)
    left: int = 0
    """Groups that are neither through nor failed."""


class Ledger:
    """The first result of a group in a stage wins; a later one is recognised as such."""

    def __init__(self, stages: int, groups: int) -> None:
        self._stages, self._groups = stages, groups
        self._open: dict[int, _OpenStep] = {}

    def open(self, step: int) -> list[GroupKey]:
        """All groups of the step, which is new."""
        self._open[step] = _OpenStep([0] * self._groups, left=self._groups)
        return [GroupKey(step, position) for position in range(self._groups)]

    def waits_for(self, key: GroupKey, stage: int) -> bool:
        """Whether this stage is the next of the group."""
        step = self._open.get(key.step)
        return step is not None and step.reached[key.position] == stage and key not in step.failed

    def behind(self, key: GroupKey, stage: int) -> bool:
        """Whether the group is still on its way to this stage."""
        step = self._open.get(key.step)
        return step is not None and step.reached[key.position] < stage and key not in step.failed

    def advance(self, key: GroupKey, stage: int) -> bool:
        """The group is through the stage. False, and nothing changes: it was already, or has failed."""
        if not self.waits_for(key, stage):
            return False
        step = self._open[key.step]
        step.reached[key.position] += 1
        step.left -= step.reached[key.position] == self._stages
        return True

    def fail(self, key: GroupKey, reason: str) -> None:
        """It is given up, and stays accounted for."""
        step = self._open[key.step]
        step.failed[key] = reason
        step.left -= 1

    def complete(self, step: int) -> bool:
        """Every group is accounted for."""
        found = self._open.get(step)
        return found is not None and found.left == 0

    def close(self, step: int) -> tuple[tuple[GroupKey, ...], dict[GroupKey, str]]:
        """The groups that have come through, in order, and those that failed, with reasons."""
        found = self._open.pop(step)
        keys = [GroupKey(step, position) for position in range(self._groups)]
        through = tuple(key for key in keys if key not in found.failed)
        if found.left or any(found.reached[key.position] != self._stages for key in through):
            raise AssertionError(f"step {step} is closed with {found.left} groups on their way")
        return through, {key: found.failed[key] for key in keys if key in found.failed}

    def unfinished(self, stage: int) -> int:
        """Groups of all open steps for which this stage is the next."""
        return sum(
            reached == stage and GroupKey(number, position) not in step.failed
            for number, step in self._open.items()
            for position, reached in enumerate(step.reached)
        )
