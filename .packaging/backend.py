"""setuptools' build backend with three additions.

It builds in a temporary folder: ``pip wheel .`` leaves no ``build/`` and no ``*.egg-info`` in the tree, and a module
deleted since the last build is not found there and shipped again. And the files of ``START_UP`` stand in the wheel
beside the packages, where Python reads them when it starts; setuptools cannot put them there in an editable wheel.
A source distribution holds this folder, or nothing could be built from it.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

START_UP = ("easel-rl.pth", "easel_rl_first.py")


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """PEP 517."""
    with TemporaryDirectory() as folder:
        elsewhere = ["egg_info", "--egg-base", folder, "build", "--build-base", folder]
        settings = {**(config_settings or {}), "--global-option": elsewhere}
        name = build_meta.build_wheel(wheel_directory, settings, metadata_directory)
    add_start_up(Path(wheel_directory, name))
    return name


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """PEP 660."""
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    add_start_up(Path(wheel_directory, name))
    return name


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """PEP 517."""
    with TemporaryDirectory() as folder:
        settings = {**(config_settings or {}), "--global-option": ["egg_info", "--egg-base", folder]}
        name = build_meta.build_sdist(sdist_directory, settings)
    add_this_folder(Path(sdist_directory, name))
    return name


def add_this_folder(sdist: Path) -> None:
    here = Path(__file__).parent
    with TemporaryDirectory() as folder:
        with tarfile.open(sdist) as made:
            made.extractall(folder, filter="tar")
        (root,) = Path(folder).iterdir()
        shutil.copytree(here, root / here.name, ignore=shutil.ignore_patterns("__pycache__"))
        with tarfile.open(sdist, "w:gz") as made:
            made.add(root, root.name)


def add_start_up(wheel: Path) -> None:
    """Puts ``START_UP`` into the wheel and into its list of files, without which they would survive an uninstall."""
    added = {name: Path(__file__).with_name(name).read_bytes() for name in START_UP}
    with ZipFile(wheel) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    with ZipFile(wheel, "w", ZIP_DEFLATED) as new:
        for name, content in added.items():
            new.writestr(name, content)
        for info, content in members:
            lines = _record(added) if info.filename.endswith(".dist-info/RECORD") else b""
            new.writestr(info, lines + content)


def _record(files: dict[str, bytes]) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join(lines).encode()
