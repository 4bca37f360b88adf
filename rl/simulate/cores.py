"""Cores that all workers of a machine share: whoever is at work gets an equal share of them."""

from __future__ import annotations

from collections.abc import Generator

import simpy


class SharedCores:
    """Processor sharing. ``count`` may be a fraction: two threads of one core do the work of 1.2 or so."""

    def __init__(self, env: simpy.Environment, count: float) -> None:
        self._env, self._count = env, count
        self._left: dict[simpy.Event, float] = {}
        self._since, self._changes = 0.0, 0

    def work(self, seconds: float) -> Generator[simpy.Event, None, None]:
        """That one call takes with a core of its own."""
        done = self._env.event()
        self._catch_up()
        self._left[done] = seconds
        self._look_ahead()
        yield done

    @property
    def _speed(self) -> float:
        """Of each call that is at work."""
        return min(1.0, self._count / max(1, len(self._left)))

    def _catch_up(self) -> None:
        gone, self._since = self._env.now - self._since, self._env.now
        self._left = {done: left - gone * self._speed for done, left in self._left.items()}

    def _look_ahead(self) -> None:
        self._changes += 1
        if self._left:
            self._env.process(self._wait(self._changes, min(self._left, key=lambda done: self._left[done])))

    def _wait(self, change: int, first: simpy.Event) -> Generator[simpy.Event, None, None]:
        """For the call that ends next, unless another one comes before."""
        yield self._env.timeout(max(0.0, self._left[first]) / self._speed)
        if change == self._changes:
            self._catch_up()
            del self._left[first]
            first.succeed()
            self._look_ahead()
