"""A loss in whose middle a rank of the trainer is gone, stands still or waits: plug-ins of the tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rl.algorithm.losses import grpo

calls = {"loss": 0}


def dying(*given: Any, marker: str, rank: int, call: int, **options: Any) -> Any:
    """Of all ranks of that number the first that comes so far ends, its gradient half made."""
    if _has_come(marker, rank, call):
        os._exit(1)
    return grpo(*given, **options)


def standing(*given: Any, marker: str, rank: int, call: int, **options: Any) -> Any:
    """It lives, and does nothing any more."""
    if _has_come(marker, rank, call):
        time.sleep(3600)
    return grpo(*given, **options)


def waiting(*given: Any, marker: str, go: str, rank: int, call: int, **options: Any) -> Any:
    """Until a file is there: somebody does something meanwhile."""
    if _has_come(marker, rank, call):
        last = time.monotonic() + 120
        while not Path(go).exists() and time.monotonic() < last:
            time.sleep(0.01)
    return grpo(*given, **options)


def _has_come(marker: str, rank: int, call: int) -> bool:
    """To its own micro-batch of that number, if none has been there before."""
    calls["loss"] += 1
    if os.environ.get("RANK") != str(rank) or calls["loss"] != call:
        return False
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
