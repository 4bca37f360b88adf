"""What tells two versions of a reward's code apart: a declared ``version``, or a hash of its source."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from rl.registry import locate, resolve

_OURS = {"rl", "rewards", "policy", "rollout"}


def reward_version(use: str) -> str:
    """The reward's attribute ``version`` if it has one, else a hash of the source of its package and ours.

    Only the modules that are imported at the moment count: call it when the reward is built. Weights that were
    replaced under the same name and newer libraries are not seen; a reward that cares declares ``version``.
    """
    declared = getattr(resolve("rewards", use), "version", None)
    if declared is not None:
        return f"declared {declared}"
    packages = {locate("rewards", use).partition(":")[0].partition(".")[0], *_OURS}
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.copy().items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in packages and file and Path(file).is_file():
            digest.update(name.encode() + b"\0" + Path(file).read_bytes() + b"\0")
    return digest.hexdigest()
