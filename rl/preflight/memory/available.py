"""How much memory a process may have here: the machine's, a container's limit, a GPU's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from rewards.needs import settle_needs
from rewards.pool.gpus import visible_gpus
from rl.config.schema import Config
from rl.preflight.memory.plan import Device
from rl.types import UserError

WORKER = 300_000_000  # of a reward process before it holds a model: Python, numpy, what the reward imports
_UNLIMITED = 1 << 60  # version 1 of control groups writes a number of this kind where there is no limit
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file")


def available(device: Device) -> int:
    """Bytes that are free now. Raises: UserError if the GPU's driver does not say."""
    if device == "cuda":
        return _free_on_gpu()
    return min(psutil.virtual_memory().available, *cgroup_room())


def worker_count(config: Config) -> int:
    """Reward processes."""
    return sum(settle_needs(name, reward)[0].workers for name, reward in config.rewards.items())


def cgroup_room(root: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of this process's control groups leave; one number that is never smallest if there are none."""
    return [*_rooms(root, mine), _UNLIMITED]


def _rooms(root: Path, mine: Path) -> Iterator[int]:
    for folder in _groups(root, mine):
        for limit, usage, unused in (_V2, _V1):
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None and most < _UNLIMITED:
                # files that nobody has open are thrown out before anybody is killed
                yield max(0, most - used + _counted(folder / limit, unused))


def _groups(root: Path, mine: Path) -> Iterator[Path]:
    """This process's own group and those above it; a container often sees its own as the root."""
    yield root
    lines = mine.read_text(encoding="ascii", errors="replace").splitlines() if mine.is_file() else []
    for line in lines:
        number, _, path = line.split(":", 2)
        inner = Path(path.lstrip("/"))
        if number == "0" and inner.parts:
            yield from (root / one for one in (inner, *inner.parents[:-1]))


def _number(file: Path) -> int | None:
    """``None`` if there is no such file, or ``max`` stands in it."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _counted(beside: Path, name: str) -> int:
    """A line of ``memory.stat``."""
    file = beside.parent / "memory.stat"
    lines = file.read_text(encoding="ascii").splitlines() if file.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def _free_on_gpu() -> int:
    tool = shutil.which("nvidia-smi")
    ours = [f"--id={','.join(visible_gpus())}"] if "CUDA_VISIBLE_DEVICES" in os.environ else []
    command = [str(tool), *ours, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False) if tool else None
    numbers = [line for line in (answer.stdout.split() if answer else ()) if line.isdigit()]
    if not numbers:
        raise UserError(
            "micro_batch: auto asks nvidia-smi how much memory the GPU has free, and it does not answer; write a "
            "number for train.micro_batch and render.micro_batch"
        )
    return min(map(int, numbers)) << 20
