"""Whether ranks that work together get on, seen from outside: each is asked how far it has come, and nobody waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError


class RankProgress:
    """``deadline_s``: how long none of them may get on. ``actors``: by rank."""

    def __init__(
        self, actors: Sequence[Any], deadline_s: float, now: Callable[[], float] = time.monotonic, look_s: float = 5.0
    ) -> None:
        self._actors, self._deadline_s, self._now = actors, deadline_s, now
        self._look_s = min(look_s, deadline_s / 4)
        self._asked: dict[int, Any] = {}
        self._silent: set[int] = set()
        """Who had not answered from one look to the next."""
        self._came = dict.fromkeys(range(len(actors)), (0, 0))
        self.begin()

    def begin(self) -> None:
        """They are asked for something now."""
        self._moved = self._looked = self._now()

    def stuck(self) -> tuple[int, str] | None:
        """Who holds up the others, and in which words; to be called again and again while they work."""
        now = self._now()
        if now - self._looked >= self._look_s:
            self._looked = now
            if self._look():
                self._moved = now
        if now - self._moved <= self._deadline_s:
            return None
        rank = min(self._silent or self._came, key=lambda rank: self._came[rank][0])
        what = "does not answer" if self._silent else "got nowhere"
        return rank, f"{what} for {self._deadline_s:g} s"

    def _look(self) -> bool:
        """Whether anybody has come further since the last look."""
        moved = False
        for rank, actor in enumerate(self._actors):
            answer = self._asked.get(rank)
            if answer is not None and not ray.wait([answer], timeout=0)[0]:
                self._silent.add(rank)
                continue
            self._silent.discard(rank)
            moved |= answer is not None and self._take(rank, answer)
            self._asked[rank] = actor.progress.remote()
        return moved

    def _take(self, rank: int, answer: Any) -> bool:
        try:
            came: tuple[int, int] = ray.get(answer)
        except RayError:
            return False  # its death is told by what it was asked for
        moved, self._came[rank] = came != self._came[rank], came
        return moved
