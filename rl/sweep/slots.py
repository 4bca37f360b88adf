"""What of the machine each of several runs at a time may use: its share of the threads, and of the GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rl.process.host import has_gpu

_GPUS = Path("/proc/driver/nvidia/gpus")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class RunSlot:
    """One place for a run; ``environment`` is what its process sees beside that of the sweep."""

    environment: Mapping[str, str]


def make_slots(count: int, given: Mapping[str, str], cores: int | None = None) -> list[RunSlot]:
    """``count`` shares. What the user has set in the environment ``given`` stands; a run alone has all there is."""
    if count == 1:
        return [RunSlot({})]
    cores = cores or len(os.sched_getaffinity(0))
    threads = {name: str(max(1, cores // count)) for name in _THREADS if name not in given}
    devices = _devices(given)
    return [
        RunSlot(threads | ({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {}))
        for place in range(count)
    ]


def _devices(given: Mapping[str, str]) -> list[str]:
    if not has_gpu():
        return []
    if chosen := given.get("CUDA_VISIBLE_DEVICES"):
        return chosen.split(",")
    return [str(number) for number, _ in enumerate(_GPUS.iterdir())] if _GPUS.is_dir() else []
