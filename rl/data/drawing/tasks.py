"""How a policy does at each task of its training prompts: counted from what was scored, newer steps weighing more.

A task is a metadata ``tag``. Its record is what rules of a curriculum and of group sizes decide by; it is a function of
the scores seen, all of it plain numbers, so a checkpoint holds it and a resumed run decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from rl.types import Prompt

DECAY = 0.9
"""Of what a record has seen, with each step that sees more of its task: it remembers some ten such steps."""


class TaskSums(TypedDict):
    """A record as a checkpoint keeps it."""

    groups: float
    success: float
    signal: float
    seen: int


@dataclass(frozen=True)
class TaskRecord:
    """``TaskRecord("counting", prompts=160, success=0.73, signal=0.6, seen=412)``."""

    name: str
    prompts: int
    """How many of its prompts there are."""
    success: float | None = None
    """Share of its samples that passed, or their mean score within 0 and 1; ``None``: nothing was seen yet."""
    signal: float | None = None
    """Share of its groups whose rewards were not all equal."""
    seen: int = 0
    """Groups, in the whole run."""


@dataclass(frozen=True)
class GroupOutcome:
    """What came of one group."""

    prompt: Prompt
    success: float
    signal: bool


def task_of(prompt: Prompt) -> str:
    """``""`` is the task of prompts without a tag."""
    tag = prompt.metadata.get("tag")
    return "" if tag is None else str(tag)


def by_task(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """Task -> places of its prompts, in the order in which tasks first appear."""
    found: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        found.setdefault(task_of(prompt), []).append(place)
    return found


def taken_in(sums: Mapping[str, TaskSums], outcomes: Sequence[GroupOutcome]) -> dict[str, TaskSums]:
    """The sums after a step with these groups."""
    after = {name: one.copy() for name, one in sums.items()}
    for name in dict.fromkeys(task_of(outcome.prompt) for outcome in outcomes):
        found = [outcome for outcome in outcomes if task_of(outcome.prompt) == name]
        old = after.get(name, TaskSums(groups=0.0, success=0.0, signal=0.0, seen=0))
        after[name] = TaskSums(
            groups=old["groups"] * DECAY + len(found),
            success=old["success"] * DECAY + sum(one.success for one in found),
            signal=old["signal"] * DECAY + sum(one.signal for one in found),
            seen=old["seen"] + len(found),
        )
    return after


def record(name: str, prompts: int, sums: TaskSums | None) -> TaskRecord:
    blank = TaskRecord(name, prompts)
    if sums is None or sums["groups"] == 0:
        return blank
    return replace(
        blank,
        success=sums["success"] / sums["groups"],
        signal=sums["signal"] / sums["groups"],
        seen=sums["seen"],
    )
