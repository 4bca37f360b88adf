"""The upload itself, and what the hub's answers mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from rl.push.plan import LEFT_OUT, PushPlan
from rl.types import UserError

_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]  # of whichever HTTP library the client is built on
_MEANING = {
    401: "the hub does not accept your token: hf auth login, or set HF_TOKEN to a valid one",
    403: "your token may not write there: use the name of an owner you belong to and a token with write access",
    404: "there is no such owner, or your token may not see it",
    409: "the hub is changing this repository at the moment: try again",
    413: "a file is larger than the hub takes",
    429: "the hub asks to wait: too many requests",
}


class Hub(Protocol):
    """What is used of ``huggingface_hub.HfApi``."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object: ...

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, ignore_patterns: list[str]
    ) -> object: ...


def upload(plan: PushPlan, *, public: bool, hub: Hub | None = None) -> str:
    """Creates the repository if it is not there and uploads; returns where it lies.

    Raises UserError, one sentence, if nobody is logged in, the hub cannot be reached, or says no.
    """
    if hub is None:
        if get_token() is None:
            raise UserError("nobody is logged in to the hub: run hf auth login, or set HF_TOKEN, then try again")
        hub = HfApi()
    with _hub_errors(plan.repository):
        where = str(hub.create_repo(plan.repository, private=not public, exist_ok=True))
        hub.upload_folder(
            repo_id=plan.repository,
            folder_path=plan.folder,
            commit_message="Upload the trained policy",
            ignore_patterns=list(LEFT_OUT),
        )
    return where


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError(f"{repository} was not uploaded: HF_HUB_OFFLINE is set; unset it to upload") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        meaning = _MEANING.get(status or 0) or _first_line(error)
        raise UserError(f"{repository} was not uploaded: {meaning} (HTTP {status})") from error
    except (_HTTP_ERROR, ConnectionError, TimeoutError) as error:
        raise UserError(f"{repository} was not uploaded: the hub cannot be reached ({_first_line(error)})") from error
    except (OSError, ValueError) as error:  # a file that cannot be read; what the client itself refuses
        raise UserError(f"{repository} was not uploaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
