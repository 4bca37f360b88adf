"""The language model that learns in other processes, and the sets of its weights, seen from the run's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from policy.trainable import Adapter, WeightStream
from rl.cluster.training.messages import Learnt, TokenLesson
from rl.config.schema import SyncConfig
from rl.learn import canary_rows
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, Rollout
from rollout.sync import Canary


class Asked(Protocol):
    """Who trains, whatever happens to some of them."""

    def ask(self, what: str, *arguments: object) -> Any: ...

    def prune(self, lowest: int) -> None: ...

    def learnt(self, step: int) -> None:
        """That step is part of what is learnt."""

    def slowed(self, factor: float) -> None:
        """So is that."""

    def saved(self) -> None:
        """What is learnt until now is part of a checkpoint."""


class RemoteLanguageModel:
    """A :class:`rl.learn.TrainedPart`."""

    def __init__(self, trainer: Asked, sync: SyncConfig) -> None:
        self._trainer, self._sync = trainer, sync
        self.version = 0

    def learn(
        self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch, *, of_answers: Tensor | None = None
    ) -> dict[str, float]:
        assert of_answers is None  # nobody answers here: the rules say so
        with timer("update"):
            learnt: Learnt = self._trainer.ask("learn", TokenLesson.of(experience, advantages_PG))
        self._trainer.learnt(experience.step)
        self.version = learnt.version
        forward = learnt.seconds.get("forward", 0.0)
        timer.seconds["update"] -= forward
        timer.seconds["forward"] = timer.seconds.get("forward", 0.0) + forward
        return dict(learnt.metrics)

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
        self._trainer.ask("rehearse", TokenLesson.of(experience, advantages_PG), rows)

    def weights(self) -> WeightStream:
        """They go into the store of the machine where they are, and from there to whoever works with them."""
        return WeightStream([], _not_here)

    def adapters(self) -> Mapping[str, Adapter]:
        raise NotImplementedError("adapters are exported where they are trained")

    def canaries(self, rollout: Rollout) -> Mapping[str, Canary]:
        rows = canary_rows(rollout, self._sync.canary, self._sync.canary_tokens)
        return {"logprobs": Canary(rows, self._trainer.ask("logprobs", rows))}

    def slow_down(self, factor: float) -> None:
        self._trainer.ask("slow_down", factor)
        self._trainer.slowed(factor)

    def save(self, folder: Path) -> None:
        self._trainer.ask("save", str(folder.resolve()))
        self._trainer.saved()

    def load(self, folder: Path) -> None:
        self.version = self._trainer.ask("load", str(folder.resolve()))


class RemoteSets:
    """The weight sets of a run, written by the first rank into the store of its machine."""

    def __init__(self, trainer: Asked) -> None:
        self._trainer = trainer

    def publish(
        self,
        version: int,
        parts: Mapping[str, WeightStream],
        *,
        canaries: Mapping[str, Canary] | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        """The trainer's weights of now, or its adapters: it is they that know which."""
        self._trainer.ask("publish", version, canaries or {})

    def prune(self, lowest: int) -> None:
        self._trainer.prune(lowest)

    def discard(self) -> None:
        """The first rank does so when it ends."""


def _not_here() -> Iterator[tuple[str, Tensor]]:
    raise NotImplementedError("this process holds no weights")
