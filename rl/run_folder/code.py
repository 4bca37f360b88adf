"""Which code a run was made by: two runs of one configuration are the same only if it is."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_HOME = Path(__file__).resolve().parents[2]
_PACKAGES = ("rl", "policy", "rewards", "rollout")
_LOOK_ON = ("sweep", "report", "bench", "doctor", "keys", "push", "memory", "simulate", "variance", "evaluate")
"""Rooms of ``rl`` that no number of a run comes from."""


@cache
def code_fingerprint() -> str:
    """Of every module that may take part in a run; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted((_HOME / package).rglob("*.py")):
            place = file.relative_to(_HOME)
            if place.parts[:1] == ("rl",) and place.parts[1] in (*_LOOK_ON, "shipped"):
                continue
            digest.update(place.as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
