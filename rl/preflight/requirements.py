"""One thing that a component must find on this machine, looked for without importing anything heavy."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rewards.library.models.downloads import absent, download_command
from rewards.requires import Requires

IN_A_CLONE = (Path(__file__).resolve().parents[2] / "Makefile").is_file()
SETUP_CPU = "make setup" if IN_A_CLONE else "pip install 'easel-rl[cpu]'"
Status = Literal["ok", "limited", "missing"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor. ``limited`` works with less (exit code 0), ``missing`` stops an example (exit code 1)."""

    part: str
    name: str
    status: Status
    found: str
    fix: str = ""


def check_required(part: str, name: str, wanted: Requires) -> Check:
    """What is absent first: packages, then files of theirs, then weights."""
    fault: Status = "limited" if wanted.optional else "missing"
    installed = {package: version(package) for package in wanted.packages}
    if lacking := [package for package, found in installed.items() if found is None]:
        return Check(part, name, fault, f"not installed: {', '.join(lacking)}", install_command(lacking))
    if clashing := [package for package in wanted.conflicts if version(package)]:
        copies = [*wanted.packages, *clashing]
        found = f"{', '.join(copies)} write over each other's files"
        pip, kept = f"{sys.executable} -m pip", " ".join(f"{name}=={found}" for name, found in installed.items())
        fix = f"{pip} uninstall -y {' '.join(copies)} && {pip} install --no-deps {kept}"
        return Check(part, name, fault, found, fix)
    if gone := missing_files(wanted.files):
        pinned = " ".join(f"{package}=={found}" for package, found in installed.items())
        fix = f"{sys.executable} -m pip install --force-reinstall --no-deps {pinned}"
        return Check(part, name, fault, f"files absent: {', '.join(gone)}", fix)
    if lacking := absent(wanted.weights, wanted.tokenizers):
        found = f"not downloaded: {', '.join(lacking)} (or name local paths in its options)"
        return Check(part, name, "limited", found, " && ".join(map(download_command, lacking)))
    return Check(part, name, "ok", "; ".join(_present(wanted, installed)))


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def missing_files(files: Sequence[str]) -> list[str]:
    """Which of them are in no folder that Python imports from."""
    return [file for file in files if not any((Path(folder) / file).is_file() for folder in sys.path)]


def install_command(packages: Sequence[str]) -> str:
    """The set-up for what belongs to our environment, pip for what a plug-in or an option brings."""
    try:
        ours = [Requirement(line) for line in metadata.requires("easel-rl") or []]
    except metadata.PackageNotFoundError:
        return SETUP_CPU
    wanted = {canonicalize_name(package) for package in packages}
    if wanted - {canonicalize_name(one.name) for one in ours}:
        return f"{sys.executable} -m pip install {' '.join(packages)}"
    extras = {_extra(one) for one in ours if canonicalize_name(one.name) in wanted} - {""}
    if extras and not IN_A_CLONE:
        return f"{sys.executable} -m pip install 'easel-rl[{','.join(sorted(extras))}]'"
    return SETUP_CPU


def _extra(requirement: Requirement) -> str:
    """``clip`` of ``open-clip-torch>=3.3; extra == "clip"``."""
    found = re.search(r"extra == ['\"]([\w-]+)", str(requirement.marker or ""))
    return found[1] if found else ""


def _present(wanted: Requires, installed: dict[str, str | None]) -> Iterator[str]:
    if installed:
        yield ", ".join(f"{package} {found}" for package, found in installed.items())
    if folders := dict.fromkeys(Path(file).parent.name for file in wanted.files):
        yield f"its files of {' and '.join(folders)}"
    if hub := [*wanted.weights, *wanted.tokenizers]:
        yield f"{' and '.join(hub)} downloaded"
    if wanted.note:
        yield wanted.note
