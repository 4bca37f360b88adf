"""Prompts for steps whose results have a say in what comes next: further ones within a step, tasks by their success.

Every task has its prompts in seeded permutations, epoch after epoch, and a place in them. Without a curriculum all
prompts are one row, of which a step may use up more than it keeps. What has been used up, and the tasks' records, are
the state: a checkpoint holds it, and a step is begun anew from it if it was not finished.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from rl.data.drawing.curricula import Curriculum
from rl.data.drawing.tasks import GroupOutcome, TaskRecord, TaskSums, by_task, record, taken_in, task_of
from rl.types import Prompt, UserError

_ALL = ""


class DrawState(TypedDict):
    """Plain data, for a checkpoint."""

    places: dict[str, int]
    """Task -> prompts of its row that are used up."""
    tasks: dict[str, TaskSums]
    earlier: NotRequired[list[dict[str, TaskSums]]]
    """``tasks`` as it was after each of the steps before, where steps are drawn ahead of them."""


@dataclass(frozen=True)
class _Step:
    """One that has begun: what a finished one leaves behind, and what it holds already."""

    number: int
    state: DrawState
    held: frozenset[str] = frozenset()
    rounds: int = 0


class PromptDraws:
    """``begin(step)``, ``more(count)`` as often as wanted, ``end(outcomes)``. No prompt comes twice in a step."""

    def __init__(self, prompts: Sequence[Prompt], seed: int, curriculum: Curriculum | None = None) -> None:
        """Raises UserError where a curriculum has no tasks to choose among."""
        self._prompts, self._seed, self._curriculum = tuple(prompts), seed, curriculum
        self._tasks = by_task(prompts)
        if curriculum:
            require_tasks(prompts)
        rows = {_ALL: list(range(len(prompts)))} if curriculum is None else self._tasks
        self._rows = {name: np.array(places, np.int64) for name, places in rows.items()}
        self.state: DrawState = {"places": {}, "tasks": {}}
        self._step = _Step(0, self.state)

    @property
    def records(self) -> list[TaskRecord]:
        """As the steps that have ended left them."""
        return self._records(self.state["tasks"])

    def success(self, prompt: Prompt, tasks: Mapping[str, TaskSums] | None = None) -> float:
        """How likely a sample of it is to pass, by its task's record; even chances where nothing is known. ``tasks``:
        other sums than those of now."""
        sums = (self.state["tasks"] if tasks is None else tasks).get(task_of(prompt))
        known = record("", 0, sums).success
        return 0.5 if known is None else known

    def shares(self, tasks: Mapping[str, TaskSums] | None = None) -> dict[str, float]:
        """Task -> probability that it is drawn, by other sums than those of now if there are some given. Raises
        UserError if the curriculum's answer is none of weights."""
        if self._curriculum is None:
            return {_ALL: 1.0}
        records = self._records(self.state["tasks"] if tasks is None else tasks)
        weights = _checked(self._curriculum(records), records)
        return {one.name: weight / sum(weights) for one, weight in zip(records, weights, strict=True)}

    def begin(self, step: int) -> None:
        """Nothing of a step that was begun and not ended remains."""
        self._step = _Step(step, self.state)

    def more(self, count: int) -> list[Prompt]:
        """Up to ``count`` prompts that the step does not hold yet: fewer where there are no more."""
        step = self._step
        left = {name: sum(self._prompts[at].id not in step.held for at in row) for name, row in self._rows.items()}
        rng = np.random.default_rng([self._seed, step.number, step.rounds])
        places, drawn = dict(step.state["places"]), list[Prompt]()
        for name, wanted in shared_out(self.shares(step.state["tasks"]), left, count, float(rng.random())).items():
            found, places[name] = self._next(name, places.get(name, 0), wanted, step.held)
            drawn += found
        if self._curriculum:  # or tasks would stand side by side
            drawn = [drawn[at] for at in rng.permutation(len(drawn))]
        held = step.held | {prompt.id for prompt in drawn}
        self._step = replace(step, state={**step.state, "places": places}, held=held, rounds=step.rounds + 1)
        return drawn

    def drawn_from(self, state: DrawState, step: int, count: int) -> tuple[list[Prompt], DrawState]:
        """A whole step's prompts, and the state in which they are used up; those of now stay as they are."""
        kept, self._step = self._step, _Step(step, state)
        try:
            return self.more(count), self._step.state
        finally:
            self._step = kept

    def end(self, outcomes: Sequence[GroupOutcome]) -> None:
        """The step is scored: what it drew and what came of it are part of the state from now on."""
        state = self._step.state
        self.state = {"places": state["places"], "tasks": taken_in(state["tasks"], outcomes)}

    def _records(self, tasks: Mapping[str, TaskSums]) -> list[TaskRecord]:
        return [record(name, len(places), tasks.get(name)) for name, places in self._tasks.items()]

    def _next(self, name: str, place: int, wanted: int, held: frozenset[str]) -> tuple[list[Prompt], int]:
        """From a place in a task's row on, passing over what the step holds; and the place after them."""
        found: dict[str, Prompt] = {}
        while len(found) < wanted:
            prompt = self._prompts[self._at(name, place)]
            place += 1
            if prompt.id not in held:
                found.setdefault(prompt.id, prompt)
        return list(found.values()), place

    def _at(self, name: str, place: int) -> int:
        row = self._rows[name]
        epoch, at = divmod(place, len(row))
        return int(row[self._order(name, epoch)[at]])

    def _order(self, name: str, epoch: int) -> NDArray[np.int64]:
        own = [] if name == _ALL else [zlib.crc32(name.encode())]
        return np.random.default_rng([self._seed, epoch, *own]).permutation(len(self._rows[name]))


def require_tasks(prompts: Sequence[Prompt]) -> None:
    """Raises UserError if they are all of one task."""
    tasks = list(by_task(prompts))
    if len(tasks) < 2:
        what = f"the tag {tasks[0]!r}" if any(tasks) else "no tag"
        raise UserError(
            f"data.curriculum: all {len(prompts):,} training prompts have {what}, so there are no tasks to choose "
            'among; give their lines a "tag" each, or leave data.curriculum out'
        )


def shared_out(shares: Mapping[str, float], left: Mapping[str, int], count: int, chance: float) -> dict[str, int]:
    """How many of ``count`` draws each task gets, none more than it has ``left``.

    By systematic sampling: marks at equal distances, of which the first lies at ``chance`` in [0, 1), so that a task of
    probability p gets ``count * p`` on average and never a whole one more or less.
    """
    given = dict.fromkeys(shares, 0)
    wanted = min(count, sum(left[name] for name in shares))
    while (open_draws := wanted - sum(given.values())) > 0:
        room = {name: share for name, share in shares.items() if given[name] < left[name]}
        if not any(room.values()):  # what is left has no probability: all alike
            room = dict.fromkeys(room, 1.0)
        edges = np.cumsum(list(room.values())) / sum(room.values())
        marks = (chance + np.arange(open_draws)) / open_draws
        hits = np.bincount(np.minimum(np.searchsorted(edges, marks, side="right"), len(edges) - 1), minlength=len(room))
        for name, hit in zip(room, hits.tolist(), strict=True):
            given[name] = min(given[name] + hit, left[name])
    return {name: number for name, number in given.items() if number}


def _checked(weights: Sequence[float], records: Sequence[TaskRecord]) -> list[float]:
    found = np.asarray(weights, dtype=np.float64) if np.ndim(weights) == 1 else np.empty(0)
    if found.shape != (len(records),) or not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise UserError(
            f"data.curriculum answered {weights!r} for the tasks {', '.join(repr(one.name) for one in records)}; it "
            "must answer a weight of 0 or more for each, not all of them 0"
        )
    return [float(one) for one in found]
