"""Whether a tracker that wants an account has a key, found without importing it: it would ask at the terminal."""

from __future__ import annotations

import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


class _Account(NamedTuple):
    """Where a tracker looks for its key, and what to do without one."""

    keys: Sequence[str]
    """Variables that hold a key."""
    mode: str
    """Variable that says whether it goes online."""
    without: Sequence[str]
    """Modes that need no key."""
    files: Sequence[str]
    """Where its ``login`` writes the key."""
    server: tuple[str, str] | None
    """Variable of the server's address, and the usual one; ``None``: any server in the file will do."""
    advice: str


_ACCOUNTS = {
    "wandb": _Account(
        keys=("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"),
        mode="WANDB_MODE",
        without=("offline", "disabled", "dryrun"),
        files=("$NETRC", "~/.netrc", "~/_netrc"),
        server=("WANDB_BASE_URL", "https://api.wandb.ai"),
        advice="type `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline to log into the run folder only",
    ),
    "swanlab": _Account(
        keys=("SWANLAB_API_KEY",),
        mode="SWANLAB_MODE",
        without=("local", "offline", "disabled"),
        files=(".swanlab/.netrc", "$SWANLAB_ROOT/.netrc", "~/.swanlab/.netrc"),
        server=None,
        advice="type `swanlab login`, or set SWANLAB_API_KEY, or SWANLAB_MODE=offline to log into the run folder only",
    ),
}


def missing_login(name: str) -> str | None:
    """What to do about the missing key; ``None`` if there is one or none is needed."""
    account = _ACCOUNTS.get(name)
    if account is None or os.environ.get(account.mode, "").lower() in account.without:
        return None
    if any(os.environ.get(key) for key in account.keys):
        return None
    files = [Path(os.path.expandvars(os.path.expanduser(file))) for file in account.files]
    return None if any(_has_key(file, account.server) for file in files) else account.advice


def _has_key(file: Path, server: tuple[str, str] | None) -> bool:
    try:
        hosts = netrc.netrc(file).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    if server is None:
        return bool(hosts)
    variable, usual = server
    return urlsplit(os.environ.get(variable) or usual).hostname in hosts or "default" in hosts
