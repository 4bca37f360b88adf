"""setuptools' build backend with two additions.

It builds in a temporary folder: ``pip wheel .`` leaves no ``build/`` and no ``*.egg-info`` in the tree, and a module
deleted since the last build is not found there and shipped again. And the files of ``START_UP`` stand in the wheel
beside the packages, where Python reads them when it starts; setuptools cannot put them there in an editable wheel.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
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
