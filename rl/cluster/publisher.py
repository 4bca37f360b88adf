"""New weights into the store, from which every worker takes what its next job names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from policy.trainable import Adapter, WeightStream
from rl.cluster.crew import Crew
from rollout.sync import Canary


class Sets(Protocol):
    """The weight sets of a run: a :class:`rl.cluster.weights.store.WeightStore` here, or somebody's elsewhere."""

    def publish(
        self,
        version: int,
        parts: Mapping[str, WeightStream],
        *,
        canaries: Mapping[str, Canary] | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> object: ...

    def prune(self, lowest: int) -> object: ...

    def discard(self) -> None: ...


@dataclass
class WeightPublisher:
    """A :class:`rollout.sync.WeightChannel`. Sets are numbered by steps: number v is what v steps have learnt."""

    store: Sets
    crews: Mapping[str, Crew]
    """Who follows the part."""
    staleness: int
    """0: workers are idle after an update, and take the new weights at once."""
    sets: dict[int, int | None] = field(default_factory=dict)
    """Number of steps -> set: an older one's where a step has changed nothing, ``None`` where nothing ever changes."""
    trained: dict[int | None, int] = field(default_factory=lambda: {None: 0})
    """Set -> version as the trainer counts it."""
    published: Callable[[], None] | None = None
    """Hears of each set that the work goes on with."""
    next: int = 0
    """Number of the set that comes next: at the start the steps that were done before."""
    part: str = "ar"
    beside: WeightPublisher | None = None
    """Of the other part that workers follow; the work goes on when both are there."""

    @property
    def in_step(self) -> bool:
        return self.staleness == 0

    @property
    def oldest(self) -> int:
        """Steps that the oldest weights that are there have learnt."""
        return min(self.sets)

    @property
    def latest(self) -> int | None:
        """The newest set; ``None`` before the first."""
        return self.sets.get(self.next - 1)

    @property
    def ready(self) -> int:
        """Number of the next set, by the part that is behind."""
        return self.next if self.beside is None else min(self.next, self.beside.next)

    def following(self, part: str) -> Sequence[Crew]:
        if part == self.part:
            return list(self.crews.values())
        return [] if self.beside is None else self.beside.following(part)

    def wants_before(self, part: str) -> bool:
        return False  # the exact sums of what a worker computes with say more

    def push(
        self,
        part: str,
        weights: WeightStream,
        version: int,
        canaries: Mapping[str, Canary],
        before: Mapping[str, Canary] | None = None,
    ) -> float | None:
        """Stands ready when it returns. The difference of the samplers' answers, where they take it at once."""
        ready = self.ready
        if part == self.part:
            found = self._put(weights, version, canaries)
        else:
            assert self.beside is not None  # nobody follows a third
            found = self.beside._put(weights, version, canaries)
        if self.ready > ready:
            self._tell()
        if self.published is None:  # steps are learnt again from a log, and the work goes on after the last of them
            self.drop(self.ready - self.staleness - 2)
        return found

    def stand_still(self, steps: int) -> None:
        """After that many steps there is something published, also if the last of them has changed nothing; the
        policy folder's weights, if nobody trains what workers follow."""
        ready = self.ready
        if self.beside is not None:
            self.beside.stand_still(steps)
        if not self.sets:
            self.sets[steps], self.next = None, steps + 1
        while self.next <= steps:
            self.sets[self.next] = self.sets[self.next - 1]
            self.next += 1
        if self.ready > ready:
            self._tell()

    def drop(self, steps: int) -> None:
        """Nobody will name what so many steps have learnt, or fewer."""
        if (oldest := self.sets.get(steps + 1)) is not None:
            self.sets = {number: one for number, one in self.sets.items() if number > steps}
            self.store.prune(oldest)
        if self.beside is not None:
            self.beside.drop(steps)

    def discard(self) -> None:
        """Of all parts: the run is over."""
        self.store.discard()
        if self.beside is not None:
            self.beside.discard()

    def _put(self, weights: WeightStream, version: int, canaries: Mapping[str, Canary]) -> float | None:
        first, number = not self.sets, self.next
        adapters = {self.part: weights.adapter} if weights.adapter else None
        self.store.publish(number, {self.part: weights}, canaries=canaries, adapters=adapters)
        self.sets[number], self.trained[number], self.next = number, version, number + 1
        if not (first or self.in_step):
            return None
        found = {role: crew.hold(number, self.part) for role, crew in self.crews.items()}
        return max(found.get("sample", ()), default=None)

    def _tell(self) -> None:
        if self.published is not None:
            self.published()
