"""The machine as it is: how many files may be open, what it multiplies, users without a name."""

from __future__ import annotations

import os
import pwd
import resource
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from rl.types import UserError

_DRIVER = Path("/proc/driver/nvidia/version")
_FILES_WANTED, _FILES_NEEDED = 4096, 200


def name_user(environment: MutableMapping[str, str]) -> None:
    """A name for a user id that has none (``docker run --user``): libraries ask for it to name their caches."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        for name in ("LOGNAME", "USER"):
            environment.setdefault(name, f"uid{os.getuid()}")


def has_gpu(driver: Path = _DRIVER) -> bool:
    """Whether this process may use one, as far as can be told without torch."""
    return driver.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def multiplies_bfloat16(cpu: Path = Path("/proc/cpuinfo"), driver: Path = _DRIVER) -> bool:
    """Whether there is a GPU, or a CPU with instructions for it; elsewhere bfloat16 is slower than float32."""
    if has_gpu(driver):
        return True
    try:
        flags = set(cpu.read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def allow_open_files() -> None:
    """Raises the soft limit as far as this process may. Raises: UserError if a run does not fit into the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES_NEEDED:
        raise UserError(
            f"this shell allows {hard} open files and a run needs about {_FILES_NEEDED}: raise the limit "
            f"(ulimit -n {_FILES_WANTED})"
        )
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_temporary_folder() -> None:
    """Raises: UserError if there is none; torch, vLLM and the reward processes each would say so in their own way."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise UserError(
            "no folder for temporary files can be written (TMPDIR, /tmp, /var/tmp, the current folder): set TMPDIR to "
            "one that can"
        ) from error
