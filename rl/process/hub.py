"""What the Hugging Face hub, or the way to it, says when something can't be downloaded: in words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from huggingface_hub import constants, errors

_NOT_STORED: Final = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM)
_LOGIN: Final = "log in by `hf auth login`"


def said(error: BaseException, revision: str | None) -> str:
    """What is wrong and what to do, if what was raised tells it; else nothing."""
    return next((told for cause in _causes(error) if (told := _told(cause, revision))), "")


def offline(error: BaseException) -> bool:
    """Whether nobody was asked, because HF_HUB_OFFLINE is set."""
    return bool(constants.HF_HUB_OFFLINE) or any(isinstance(one, errors.OfflineModeIsEnabled) for one in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """What the hub's client raised stands behind what other libraries make of it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: BaseException, revision: str | None) -> str:
    if isinstance(error, errors.GatedRepoError):
        return f"its licence must be accepted on its page of the hub first; do so and {_LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision or 'main'!r} of it; correct the revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no such repository, or shows it to others only; correct the name or {_LOGIN}"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return "its repository holds no such file; correct the name"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return f"the hub answered HTTP {error.response.status_code}; try again later"
    if isinstance(error, OSError) and error.errno in _NOT_STORED:
        return f"it can't be stored ({error.strerror}: {error.filename or 'the folder of HF_HOME'}); set HF_HOME"
    return ""
