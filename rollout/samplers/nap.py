"""When an engine lends its share of the GPU to painting and training, and in which order it takes it back.

sleep -> others work -> room for weights -> they go in -> they are added up and proved -> room for the cache -> what the
cache remembers of older weights is forgotten. So memory is tightest with the cache away, and nothing is computed, not
even a canary's answer, with weights that nobody has proved.
"""

from __future__ import annotations

from typing import Protocol

import torch

from rollout.samplers.contract import EngineError

_TAGS = ("weights", "kv_cache")
_TOLD = {"weights": "weights", "kv_cache": "key-value cache"}


class NappingEngine(Protocol):
    """What is used of ``vllm.LLM``. Where it cannot sleep, on a CPU, it only takes no requests meanwhile."""

    def sleep(self, level: int) -> object: ...

    def wake_up(self, tags: list[str]) -> bool:
        """Whether all of it is there again."""

    def reset_prefix_cache(self) -> bool:
        """Whether it has forgotten what it had computed."""


class Nap:
    """Level 1: weights wait in the machine's memory, the cache is dropped. Level 2: both are dropped, so that nothing
    may be asked before new weights have come.
    """

    def __init__(self, engine: NappingEngine) -> None:
        self._engine = engine
        self._away: list[str] = []
        self._stale = False  # the cache was computed with other weights
        self.forgotten = False
        """Whether its weights are gone for good."""

    def begin(self, level: int) -> None:
        """A nap in a nap changes nothing."""
        if not self._away:
            self._engine.sleep(level=level)
            self._away, self.forgotten = list(_TAGS), level == 2

    def make_room(self) -> None:
        """For new weights, which are then to be loaded whole."""
        self._take_back("weights")

    def weights_came(self) -> None:
        """They are in, all of them; the cache stays away until somebody asks."""
        self.forgotten, self._stale = False, True

    def end(self) -> None:
        """Everything is where it was, for whoever asks now. Raises: EngineError if the weights were dropped and no
        others came, or if the engine does not come back whole."""
        if self.forgotten:
            raise EngineError(
                "the engine dropped its weights (rollout.sleep is 2) and none came; set rollout.sleep to 1."
            )
        for tag in _TAGS:
            self._take_back(tag)
        if not self._stale:
            return
        if self._engine.reset_prefix_cache() is not True:
            raise EngineError("vLLM kept its prefix cache because requests are still running; start a new engine.")
        self._stale = False

    def _take_back(self, tag: str) -> None:
        if tag not in self._away:
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # torch keeps what it has freed; the engine allocates beside it
        try:
            awake = self._engine.wake_up(tags=[tag])
        except RuntimeError as error:
            raise EngineError(
                f"vLLM could not take the memory of its {_TOLD[tag]} back ({' '.join(str(error).split())[:200]}): "
                "others hold too much of the GPU; lower rollout.options.kv_cache_mb, train.micro_batch or "
                "render.micro_batch."
            ) from error
        self._away.remove(tag)
        if not self._away and awake is not True:
            raise EngineError(
                "vLLM says that a part of it is still asleep after weights and cache were woken; start a new engine."
            )
