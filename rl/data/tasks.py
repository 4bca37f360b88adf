"""What a prompt asks for: a picture of its text, its own picture changed as the text says, or words about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rl.data.prompt_list import name_of
from rl.types import Prompt, UserError

Task = Literal["draw", "edit", "answer"]
TASK: Final = "task"
"""The metadata key that may say so: ``"task": "edit"``; that a prompt is a question, it alone says."""


def task_of(prompt: Prompt) -> Task:
    """A prompt that holds pictures, or says ``"task": "edit"``, is an instruction to edit; one that says ``"task":
    "answer"`` a question about its picture."""
    if prompt.metadata.get(TASK) == "answer":
        return "answer"
    return "edit" if prompt.pictures or prompt.metadata.get(TASK) == "edit" else "draw"


def is_question(prompt: Prompt) -> bool:
    """Whether it is answered in words."""
    return task_of(prompt) == "answer"


def require_picture(prompt: Prompt) -> None:
    """Raises UserError if an instruction to edit, or a question, holds no picture."""
    task = task_of(prompt)
    if task != "draw" and not prompt.pictures:
        what = "an instruction to edit" if task == "edit" else "a question about a picture"
        raise UserError(
            f'{name_of(prompt)} is {what} ("{TASK}": "{task}") and holds no picture; name the picture under "image" in '
            f"its line"
        )


def require_no_more(prompt: Prompt) -> None:
    """Raises UserError if it holds more pictures than a policy with one place for them reads."""
    if len(prompt.pictures) > 1:
        reads = "answers about one" if is_question(prompt) else "edits one"
        raise UserError(
            f"{name_of(prompt)} holds {len(prompt.pictures)} pictures, and this policy {reads}; leave one in the "
            f"prompt's line or choose a policy that reads several"
        )


def no_answers(prompt: Prompt) -> UserError:
    """What is said where a policy has not learnt to answer."""
    return UserError(
        f"{name_of(prompt)} is a question, and this policy does not answer in words (its policy.json has no "
        f"task_templates with answer); leave the questions out, or choose a policy that was trained to answer"
    )


def require_one_kind(prompts: Sequence[Prompt], where: str) -> None:
    """Raises UserError if some ask for words and others for pictures."""
    asked = sum(map(is_question, prompts))
    if 0 < asked < len(prompts):
        raise UserError(
            f"{where}: {asked:,} of {len(prompts):,} prompts are questions that are answered in words, the others ask "
            f"for pictures, and nothing says how many of each a step holds; give data.shares, for example {{draw: 2, "
            f"answer: 1}}, or train on the questions in a run of their own"
        )


def require_pictures(prompts: Sequence[Prompt]) -> None:
    """The same of all of them."""
    for prompt in prompts:
        require_picture(prompt)
