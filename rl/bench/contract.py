"""What the command and its worker processes say to each other, one variant a process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Request = Literal["step", "floor"]
Side = Literal["ours", "trl"]
MOST_STEPS = 500
"""That a worker can take."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is to measure; ``config`` is a whole run as YAML."""

    side: Side
    config: str
    vllm: bool = False
    """TRL only: sample with vLLM in the trainer's process."""


@dataclass(frozen=True)
class Seated:
    """The worker has loaded everything and waits for its first step."""


@dataclass(frozen=True)
class StepTaken:
    """One step of a variant. ``StepTaken(1.7, {"sample": 0.3, "update": 0.6}, reward=0.62, ratio_deviation=0.0)``."""

    seconds: float
    stages: Mapping[str, float]
    """Of those seconds, per stage; what belongs to none is missing from the sum."""
    reward: float
    """Mean over the step's pictures."""
    ratio_deviation: float | None = None
    """Largest distance of the first ratio from 1; None where nobody tells it."""


@dataclass(frozen=True)
class StageFloor:
    """The least that a stage can take on this machine."""

    stage: str
    gflop: float
    seconds: float
    kinds: Mapping[str, float] = field(default_factory=dict)
    """Kind of work -> its part of the seconds."""


@dataclass(frozen=True)
class FloorMeasured:
    stages: Sequence[StageFloor] = field(default_factory=tuple)
    kinds: Mapping[str, float] = field(default_factory=dict)
    """Kind of work -> seconds of one step."""


@dataclass(frozen=True)
class Broken:
    """The variant cannot be measured; the worker has ended. ``reason`` is one sentence."""

    reason: str


Answer = Seated | StepTaken | FloorMeasured | Broken


class Seat(Protocol):
    """A worker's end of the line."""

    def requests(self) -> Iterator[Request]:
        """What is asked, one after another, until the command hangs up; waiting takes no CPU."""

    def tell(self, answer: Answer) -> None: ...


class VariantFailed(Exception):
    """One variant of a bench cannot go on; the sentence says why. The others can."""
