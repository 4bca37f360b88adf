"""What tells two versions of a reward's code apart: a declared ``version``, or a hash of its source."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rl.registry import is_module_attr, locate, resolve, top_package

_OURS = {"rl", "rewards", "policy", "rollout"}


def reward_version(use: str, options: Mapping[str, object]) -> str:
    """The reward's attribute ``version`` if it has one, else a hash of the source of its package, of those that its
    options name as ``module:attr`` (a detector, a function for TRL), and of ours.

    Only the modules that are imported at the moment count: call it when the reward is built. Weights that were
    replaced under the same name and newer libraries are not seen; a reward that cares declares ``version``.
    """
    declared = getattr(resolve("rewards", use), "version", None)
    if declared is not None:
        return f"declared {declared}"
    packages = {top_package(locate("rewards", use)), *map(top_package, _named(options)), *_OURS}
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.copy().items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in packages and file and Path(file).is_file():
            digest.update(name.encode() + b"\0" + Path(file).read_bytes() + b"\0")
    return digest.hexdigest()


def _named(value: object) -> Iterator[str]:
    """Every ``module:attr`` in the options, however deep."""
    if isinstance(value, str) and is_module_attr(value):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _named(item)
