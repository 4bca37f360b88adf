"""What is to be done: steps of groups that go through stages, and how long anybody may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class GroupKey:
    """A group of samples of one prompt, addressed before anybody has sampled it.

    ``GroupKey(12, 3)``: the fourth prompt of step 12.
    """

    step: int
    position: int


@dataclass(frozen=True)
class Stage:
    """What every group goes through, by workers of its own: ``Stage("sample", most_groups=16)``."""

    name: str
    most_groups: int = 1
    """Groups that a worker takes at one time."""
    deadline: float = 600.0
    """Seconds after which a worker that has not answered counts as wedged."""
    blocks: bool = False
    """A worker takes groups 0 to ``most_groups`` - 1, or the next as many, ... of a step, whole, however many workers
    there are: what is computed side by side, on which last digits may depend, is then always the same."""

    def __post_init__(self) -> None:
        if self.most_groups < 1 or self.deadline <= 0:
            raise ValueError(f"a stage takes at least one group and has a deadline, got {self}")


STAGES = (Stage("sample", most_groups=16), Stage("paint"), Stage("score"))


@dataclass(frozen=True)
class WorkPlan:
    """``steps`` steps of ``groups`` groups each; step k is made with exactly version max(0, k - staleness).

    Version v is the weights after v learnt steps, so bounded staleness is no rule that anything is dropped by: it is
    the address of the work. With ``staleness`` 0 this is the serial loop.
    """

    steps: int
    groups: int
    staleness: int = 0
    stages: tuple[Stage, ...] = STAGES
    attempts: int = 3
    """Workers that may fail on a group before it counts as failed, and trainers on a step."""
    max_failed: float = 0.1
    """Share of failed groups in a step that ends the run."""
    slow_factor: float = 3.0
    """An idle worker takes a group over as well from one that needs this many times the median."""
    absence: float = 600.0
    """Seconds that a stage, or the update, may be without anybody."""
    update_deadline: float = 3600.0
    """Seconds for a step's update and for its weights to stand ready."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.groups < 1 or self.staleness < 0 or not self.stages or self.attempts < 1:
            raise ValueError(f"a plan has steps, groups, stages and attempts, got {self}")

    def version_of(self, step: int) -> int:
        """The weights that sample and paint a step."""
        return max(0, step - self.staleness)

    def log_needed(self, version: int) -> int:
        """A run resumes exactly from the weights of ``version`` if the experience of all steps below the returned one
        is logged: what made those steps, if not these weights or later ones, is gone."""
        return min(self.steps, version + self.staleness) if version > 0 else 0


@dataclass(frozen=True)
class Lease:
    """A worker has these groups of one step until it answers; ``Lease(7, "paint", "paint-2", (GroupKey(12, 3),), 10,
    since=81.5)`` is made with the weights of version 10."""

    number: int
    stage: str
    worker: str
    keys: tuple[GroupKey, ...]
    version: int
    since: float

    @property
    def step(self) -> int:
        return self.keys[0].step

    @property
    def told(self) -> str:
        """``group 3 of step 12``, ``groups 4-7 of step 12``; for messages."""
        first, last = self.keys[0].position, self.keys[-1].position
        return f"group{f' {first}' if first == last else f's {first}-{last}'} of step {self.step}"
