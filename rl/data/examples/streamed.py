"""Examples that come one after another, from data sets too large to be listed, with an exact resume."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rl.data.examples.contract import Example
from rl.types import UserError


class Resumable(Protocol):
    """What ``datasets.IterableDataset`` is to us."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass(frozen=True)
class StreamedExamples:
    """Rows in the order of their files, shuffled inside windows of ``window`` of them."""

    opened: Callable[[], Resumable]
    to_example: Callable[[Mapping[str, Any], str], Example]
    name: str
    window: int
    notes: Sequence[str] = field(default=())

    def digest(self) -> str:
        """Nobody has seen all of them."""
        return f"stream:{hashlib.sha256(self.name.encode()).hexdigest()}"


class WindowedStream:
    """What each step gets. A window is drawn whole and taken in a seeded order; the state is where it begins in the
    data set, and how much of it has been taken: a shuffle buffer, of which a resume would lose the content, is not
    needed."""

    def __init__(self, examples: StreamedExamples, per_step: int, seed: int) -> None:
        self._examples, self._per_step, self._seed = examples, per_step, seed
        self._rows: Resumable = examples.opened()
        self._begin({"epoch": 0, "window": 0, "taken": 0, "before": None})

    def at(self, step: int) -> list[Example]:
        found: list[Example] = []
        while len(found) < self._per_step:
            if self._taken == len(self._held):
                self._next_window()
            more = self._held[self._taken :][: self._per_step - len(found)]
            self._taken += len(more)
            found += more
        return found

    def state(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "window": self._window, "taken": self._taken, "before": self._before}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._begin(state)
        if state["before"] is not None:
            self._rows.load_state_dict(dict(state["before"]))
            self._reading = iter(self._rows)
            self._fill()
            self._taken = int(state["taken"])

    def _begin(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._window = int(state["epoch"]), int(state["window"])
        self._held: list[Example] = []
        self._taken, self._before = 0, state["before"]
        self._rows = self._examples.opened()
        self._reading = iter(self._rows)

    def _next_window(self) -> None:
        self._before, self._window = self._rows.state_dict(), self._window + 1
        self._fill()
        if not self._held:
            if self._window == 1:
                raise UserError(f"supervised.examples: {self._examples.name} has no rows")
            self._begin({"epoch": self._epoch + 1, "window": 0, "taken": 0, "before": None})
            self._before, self._window = self._rows.state_dict(), 1
            self._fill()

    def _fill(self) -> None:
        name, first = self._examples.name, (self._window - 1) * self._examples.window
        rows = [row for _, row in zip(range(self._examples.window), self._reading, strict=False)]
        order = np.random.default_rng([self._seed, self._epoch, self._window]).permutation(len(rows))
        self._held = [self._examples.to_example(rows[place], f"{name}:{first + place}") for place in order]
        self._taken = 0
