"""Where prompts come from, and how a step shares itself out among tasks."""

from __future__ import annotations

from math import floor

from pydantic import model_validator

from rl.config.section import Component, Section
from rl.config.values import AtLeastOne, Positive


class TaskShares(Section):
    """How many of a step's prompts are of each task, in proportion: ``{draw: 2, edit: 1, answer: 1}``; a task that is
    left out has none."""

    draw: Positive | None = None
    """Texts to be drawn."""
    edit: Positive | None = None
    """Instructions to change a picture."""
    answer: Positive | None = None
    """Questions about a picture, answered in words."""

    @model_validator(mode="after")
    def _some(self) -> TaskShares:
        if not self.given:
            raise ValueError("must give a share to one task at least (draw, edit, answer)")
        return self

    @property
    def given(self) -> dict[str, float]:
        """Task -> its share, of those that have one."""
        shares = {"draw": self.draw, "edit": self.edit, "answer": self.answer}
        return {task: share for task, share in shares.items() if share is not None}

    def numbers(self, per_step: int) -> dict[str, int]:
        """Whole prompts of each task, one at least, by largest remainders; the same in every step.

        ``TaskShares(draw=2, edit=1, answer=1).numbers(32) == {"draw": 16, "edit": 8, "answer": 8}``
        """
        whole, free = sum(self.given.values()), per_step - len(self.given)
        exact = {task: share / whole * per_step for task, share in self.given.items()}
        found = {task: max(1, floor(one)) for task, one in exact.items()}
        if free < 0:
            raise ValueError(f"{per_step} prompts for {len(self.given)} tasks")
        while (left := per_step - sum(found.values())) != 0:
            change = 1 if left > 0 else -1
            movable = [task for task in found if found[task] + change >= 1]
            found[max(movable, key=lambda task: change * (exact[task] - found[task]))] += change
        return found


class DataConfig(Section):
    """Where the prompts come from."""

    train: Component = Component(use="shapes", options={"split": "rl"})
    """Prompts to learn from (``shapes``, ``jsonl``, ``text``, ``hf``, ``geneval``, ``words``, ``mixture`` of these)."""
    eval: Component | None = Component(use="shapes", options={"split": "heldout", "per_task": 100})
    """Held-out prompts; ``null`` turns evaluation off."""
    prompts_per_step: AtLeastOne = 16
    """Prompts (groups) in each step, all different."""
    shares: TaskShares | None = None
    """How a step's prompts are shared out among drawing, editing and answering, as many of each in every step;
    ``null``: every training prompt as often as any other, and no questions beside prompts for pictures."""
    curriculum: Component | None = None
    """How often each task (metadata ``tag``) is drawn, by how the policy does at it (``learnability``, ``failure``,
    ``signal``); ``null``: every training prompt as often as any other."""

    @property
    def drawn_per_step(self) -> int:
        """Prompts of a step that ask for pictures, as far as ``shares`` tells."""
        answered = self.shares.numbers(self.prompts_per_step).get("answer", 0) if self.shares else 0
        return self.prompts_per_step - answered
