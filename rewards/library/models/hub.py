"""The Hugging Face hub: one sentence for weights that can't be had, with the reason that hub or machine gave."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from huggingface_hub import constants, errors, try_to_load_from_cache

from rewards.library.models.downloads import download_command
from rewards.remote.reach import refusals
from rl.process.hub import offline, said
from rl.types import UserError

_HUB_NAME: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:.+)?")


class _NotReached(OSError):
    """Who does not answer, and why."""


def check_revision(checkpoint: str, revision: object, *, at: str, option: str = "revision") -> None:
    """Raises ``UserError`` if it is no text, or ``checkpoint`` is a path, which has none."""
    if revision is None:
        return
    if not isinstance(revision, str) or not revision:
        raise UserError(f"{at}.{option} is {revision!r}: it must be a branch, a tag or a commit of the hub, in quotes")
    if Path(checkpoint).exists():
        raise UserError(f"{at}.{option} is {revision!r}, and {checkpoint} is on this machine: drop the revision")


def check_reachable(
    checkpoint: str, files: Collection[str], *, at: str, option: str, revision: str | None = None
) -> None:
    """Raises ``UserError`` if none of ``files`` is on this machine and the hub certainly can't be reached.

    The hub's own client would try again for half a minute.
    """
    if constants.HF_HUB_OFFLINE or Path(checkpoint).exists() or not _HUB_NAME.fullmatch(checkpoint):
        return
    repo = checkpoint.partition(":")[0]
    try:
        here = any(isinstance(try_to_load_from_cache(repo, file, revision=revision), str) for file in files)
    except errors.HFValidationError:  # no name: whoever loads it says so
        return
    for url, why in () if here else refusals([constants.ENDPOINT]).items():
        raise out_of_reach(checkpoint, _NotReached(f"{url}: {why}"), at=at, option=option, revision=revision)


def out_of_reach(checkpoint: str, error: BaseException, *, at: str, option: str, revision: str | None) -> UserError:
    """The sentence for weights that are neither here nor downloadable, from what was raised."""
    if not _HUB_NAME.fullmatch(checkpoint):
        return UserError(f"{at}.{option}: there is no folder {checkpoint!r}, nor is it a name on the Hugging Face hub")
    wanted = "the file" if ":" in checkpoint else "the folder"
    path = f"or set {at}.{option} to the path of {wanted}"
    command = download_command(checkpoint) + (f" --revision {revision}" if revision else "")
    if told := said(error, revision):
        return UserError(f"{at}.{option}: {checkpoint!r} is not on this machine, and {told}, {path}")
    unknown = str(error) if isinstance(error, _NotReached) else "the hub is not reached"
    why = "HF_HUB_OFFLINE is set" if offline(error) else unknown
    return UserError(
        f"{at}.{option}: {checkpoint!r} is not on this machine and can't be downloaded now ({why}); with a network "
        f"type `{command}`, {path}"
    )
