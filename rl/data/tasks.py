"""What a prompt asks for: a picture of its text, or its own picture changed as the text says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rl.data.prompt_list import name_of
from rl.types import Prompt, UserError

Task = Literal["draw", "edit"]
TASK: Final = "task"
"""The metadata key that may say so: ``"task": "edit"``."""


def task_of(prompt: Prompt) -> Task:
    """A prompt that holds pictures, or says ``"task": "edit"``, is an instruction to edit."""
    return "edit" if prompt.pictures or prompt.metadata.get(TASK) == "edit" else "draw"


def require_picture(prompt: Prompt) -> None:
    """Raises UserError if an instruction to edit holds no picture."""
    if task_of(prompt) == "edit" and not prompt.pictures:
        raise UserError(
            f'{name_of(prompt)} is an instruction to edit ("{TASK}": "edit") and holds no picture; name the picture '
            f'under "image" in its line'
        )


def require_pictures(prompts: Sequence[Prompt]) -> None:
    """The same of all of them."""
    for prompt in prompts:
        require_picture(prompt)
