"""An account of a simulated run that knows nothing of the scheduler's own.

What was lost, doubled or made with the wrong weights, which faults struck, and how long it took until what they struck
was done all the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from rl.scheduler.events import Learn
from rl.scheduler.work import GroupKey, Lease, WorkPlan
from rl.simulate.faults import Fate


class Audit:
    """Told by the simulation what the scheduler orders and what comes of it."""

    def __init__(self, plan: WorkPlan) -> None:
        self.lost = 0
        """Groups of learnt steps that are neither learnt from nor failed by name."""
        self.doubled = 0
        """Groups that are in a step twice, and steps that are learnt twice."""
        self.wrong = 0
        """Calls, and learnt steps, with other weights than the plan says, or with weights that are gone."""
        self.failed = 0
        """Groups that are left out by name."""
        self.struck: Counter[Fate] = Counter()
        self.recovery: dict[Fate, list[float]] = defaultdict(list)
        """Seconds from a fault to the result that it was about, from whomever."""
        self._plan, self._published, self._learnt = plan, 0, set[int]()
        self._dropped = -1
        self._open: dict[tuple[str, int, int], list[tuple[Fate, float]]] = defaultdict(list)

    def assigned(self, lease: Lease) -> None:
        due = self._plan.version_of(lease.step)
        self.wrong += not (lease.version == due <= self._published and due > self._dropped)

    def dropped(self, version: int) -> None:
        self._dropped = version

    def struck_call(self, fate: Fate, lease: Lease, at: float) -> None:
        self.struck[fate] += 1
        for key in lease.keys:
            self._open[lease.stage, key.step, key.position].append((fate, at))

    def struck_update(self, fate: Fate, order: Learn, at: float) -> None:
        self.struck[fate] += 1
        self._open["update", order.step, 0].append((fate, at))

    def answered(self, lease: Lease, at: float) -> None:
        for key in lease.keys:
            self._recovered((lease.stage, key.step, key.position), at)

    def published(self, order: Learn, at: float) -> None:
        self._recovered(("update", order.step, 0), at)
        self._published = max(self._published, order.step + 1)

    def ordered(self, order: Learn) -> None:
        """What is learnt from, against what the plan says."""
        if order.replay:
            self.wrong += order.step not in self._learnt
            return
        self.doubled += order.step in self._learnt
        self._learnt.add(order.step)
        self.wrong += order.version != self._plan.version_of(order.step)
        seen = Counter([*order.groups, *order.failed])
        expected = {GroupKey(order.step, position) for position in range(self._plan.groups)}
        self.lost += len(expected - seen.keys())
        self.doubled += sum(seen.values()) - len(expected & seen.keys())
        self.failed += len(order.failed)
        for key in order.failed:  # nobody waits for them any more
            for stage in self._plan.stages:
                self._open.pop((stage.name, key.step, key.position), None)

    def ended(self) -> None:
        """After the last step: those that were never learnt are lost whole."""
        self.lost += self._plan.groups * (self._plan.steps - len(self._learnt))

    def _recovered(self, what: tuple[str, int, int], at: float) -> None:
        for fate, since in self._open.pop(what, ()):
            self.recovery[fate].append(at - since)
