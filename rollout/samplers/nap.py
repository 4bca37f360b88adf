"""When an engine lends its share of the GPU to painting and training, and in which order it takes it back."""

from __future__ import annotations

from typing import Protocol

import torch

from rollout.samplers.contract import EngineError


class NappingEngine(Protocol):
    """What is used of ``vllm.LLM``. Where it cannot sleep, on a CPU, it only takes no requests meanwhile."""

    def sleep(self, level: int) -> object: ...

    def wake_up(self, tags: list[str]) -> object: ...


class Nap:
    """Level 1: weights wait in the machine's memory, the cache is dropped. Level 2: both are dropped, so that nothing
    may be asked before new weights have come. Those go in while the cache is still away, where memory is tightest.
    """

    def __init__(self, engine: NappingEngine) -> None:
        self._engine = engine
        self._away: list[str] = []
        self.forgotten = False
        """Whether its weights are gone for good."""

    def begin(self, level: int) -> None:
        """A nap in a nap changes nothing."""
        if not self._away:
            self._engine.sleep(level=level)
            self._away, self.forgotten = ["weights", "kv_cache"], level == 2

    def make_room(self) -> None:
        """For new weights, which are then to be loaded whole."""
        self._take_back("weights")

    def end(self, *, weights_came: bool = False) -> None:
        """Everything is where it was. Raises: EngineError if its weights were dropped and no others came."""
        if self.forgotten and not weights_came:
            raise EngineError(
                "the engine dropped its weights (rollout.sleep is 2) and none came; set rollout.sleep to 1."
            )
        self.forgotten = False
        self._take_back("weights", "kv_cache")

    def _take_back(self, *tags: str) -> None:
        tags_away = [tag for tag in tags if tag in self._away]
        if not tags_away:
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # torch keeps what it has freed; the engine allocates beside it
        self._engine.wake_up(tags=tags_away)
        self._away = [tag for tag in self._away if tag not in tags_away]
