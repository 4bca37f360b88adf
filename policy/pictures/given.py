"""What commands about a picture check before a model is loaded."""

from __future__ import annotations

from pathlib import Path

from policy.folder import read_policy_config, read_task_templates, resolve_folder
from rl.data.pictures import Picture, PictureError
from rl.types import UserError


def given_picture(file: Path, fix: str) -> Picture:
    """``fix``: what to name if there is none. Raises: UserError if it is missing or no picture."""
    if not file.is_file():
        raise UserError(f"there is no picture {str(file)!r}; {fix}.")
    picture = Picture(file)
    try:
        picture.check()
    except PictureError as error:
        raise UserError(f"the picture {str(file)!r} can't be read: {error}; name another.") from error
    return picture


def require_task(policy: str, task: str, otherwise: str, fix: str) -> None:
    """``otherwise``: what a policy without a template of ``task`` does.

    Raises: UserError if the policy of this name has none.
    """
    folder = resolve_folder(policy)
    read_policy_config(folder)
    if task not in read_task_templates(folder):
        raise UserError(
            f"--policy {policy}: this policy {otherwise} (its policy.json has no task_templates with {task}); give a "
            f"policy that was trained to {fix}."
        )
