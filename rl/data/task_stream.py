"""Which prompts each step gets where it shares itself out among tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rl.config.sections.data import DataConfig
from rl.data.prompt_list import name_of
from rl.data.stream import PromptStream
from rl.data.tasks import task_of
from rl.types import Prompt, UserError


class Stream(Protocol):
    """A pure function of the step."""

    def at(self, step: int) -> list[Prompt]: ...


def prompt_stream(data: DataConfig, prompts: Sequence[Prompt], seed: int) -> Stream:
    """That of a run. Raises UserError if there are too few prompts, of one of its tasks or in all."""
    if data.shares is None:
        return PromptStream(prompts, data.prompts_per_step, seed)
    return TaskStream(prompts, data.shares.numbers(data.prompts_per_step), seed)


class TaskStream:
    """A step holds as many prompts of each task as any other step: first those to draw, then edits, then questions.

    Each task has a :class:`PromptStream` of its own, so that each of its prompts comes as often as any other of it.
    """

    def __init__(self, prompts: Sequence[Prompt], numbers: Mapping[str, int], seed: int) -> None:
        """``numbers``: task -> prompts of a step. Raises UserError if they and the prompts don't fit."""
        by_task: dict[str, list[Prompt]] = {task: [] for task in numbers}
        for prompt in prompts:
            by_task.setdefault(task_of(prompt), []).append(prompt)
        for task, found in by_task.items():
            _check(task, found, numbers.get(task))
        self._streams = [PromptStream(by_task[task], count, seed) for task, count in numbers.items()]

    def at(self, step: int) -> list[Prompt]:
        """The prompts of a step (counted from 0), all different."""
        return [prompt for stream in self._streams for prompt in stream.at(step)]


def _check(task: str, found: Sequence[Prompt], count: int | None) -> None:
    if count is None:
        raise UserError(
            f"data.shares has no {task}, and data.train has {len(found):,} prompts of that task, {name_of(found[0])} "
            f"first; give {task} a share, or take them out of data.train"
        )
    if not found:
        raise UserError(f"data.shares.{task}: data.train has no prompt of that task; add some, or leave the share out")
    if len(found) < count:
        raise UserError(
            f"data.shares gives {task} {count} prompts of a step, but data.train has only {len(found)} different ones; "
            f"lower data.prompts_per_step or the share, or add prompts"
        )
