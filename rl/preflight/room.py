"""Room on this machine: a folder that can be written, disk, memory, shared memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rl.config.section import Optimisation
from rl.preflight.requirements import Check

MIN_SHM_GB = 0.5
SHARED_MEMORY = Path("/dev/shm")
BYTES = {"float32": 4, "bfloat16": 2}


def optimiser_bytes(train: Optimisation) -> int:
    """Of one parameter: AdamW's two moments in float32; ZeRO, and so bfloat16, has a float32 copy of the weights."""
    return 8 if BYTES[train.dtype] == 4 and train.zero_stage == 0 else 12


def checkpoint_bytes(parameters: int) -> int:
    """Of one checkpoint: each trained parameter and AdamW's two moments, in float32."""
    return parameters * 12


def folder_problems(folder: Path, needed_bytes: int) -> Iterator[str]:
    """Why nothing, or not enough, could be written into ``run.folder``."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), Path("/"))
    if not there.is_dir():
        yield f"run.folder: {there} is a file; choose another folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"run.folder: {there} can't be written; choose another folder, or change its permissions"
    elif (free := shutil.disk_usage(there).free) < needed_bytes:
        yield (
            f"run.folder: one checkpoint takes {needed_bytes / 1e9:.2f} GB and the disk of {there} has "
            f"{free / 1e9:.2f} GB free; free space, or choose a folder on another disk"
        )


def at_least(name: str, have_gb: float, need_gb: float, fix: str) -> Check:
    if have_gb >= need_gb:
        return Check("machine", name, "ok", f"{have_gb:.0f} GB free")
    return Check("machine", name, "limited", f"{have_gb:.1f} GB free ({need_gb:g} GB wanted)", fix)


def check_shared_memory(folder: Path) -> Check:
    if not folder.is_dir():
        return Check("machine", "shared memory", "limited", f"no {folder}", "Ray and torch fall back to files in /tmp")
    return at_least(
        "shared memory", shutil.disk_usage(folder).free / 1e9, MIN_SHM_GB, "in a container: docker run --shm-size=2g"
    )
