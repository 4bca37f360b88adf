"""The live parts of a run, wired by ``rl.build``, and Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from policy.base import Policy
from rl.collect import Collect
from rl.collectors import Collector
from rl.config.schema import Config
from rl.learn import Learner
from rl.tracking.guards import Guards
from rl.tracking.tracker import Tracker
from rl.types import Prompt


class Interrupt:
    """While entered, SIGINT and SIGTERM set ``asked``; a second signal raises KeyboardInterrupt."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.asked = False
        self._tell = tell
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._tell("interrupted: finishing this step and saving a checkpoint; once more to stop at once")


@dataclass
class Run:
    """Everything that the loop works with, one of each."""

    config: Config
    folder: Path
    policy: Policy
    train_prompts: Sequence[Prompt]
    eval_prompts: Sequence[Prompt]
    act: Collect
    """One turn of the first half; the collector calls it for steps, the evaluation for held-out prompts."""
    collector: Collector
    learner: Learner
    tracker: Tracker
    guards: Guards
    interrupt: Interrupt
