"""The configurations that came with the package: ``examples/geneval.yaml`` means the same in any folder."""

from __future__ import annotations

import itertools
from pathlib import Path

from rl.registry import SHIPPED

_FOLDERS = ("configs", "examples")


def find(path: Path) -> Path:
    """``path`` where it exists; else, below configs/ or examples/, the file of that name that came with easel-rl.

    Leading ``../`` are left out: an example that was copied into another folder still finds what it extends.
    """
    if path.exists() or not (shipped := _shipped(path)).is_file():
        return path
    return shipped


def note(path: Path) -> str | None:
    """One line for the user where ``find`` leads elsewhere."""
    found = find(path)
    return None if found == path else f"{path} is not here; taken from easel-rl: {found}"


def names_beside(path: Path) -> list[str]:
    """What came with easel-rl in that folder, for a guess at what was meant."""
    return [file.name for file in _shipped(path).parent.glob("*.yaml")]


def _shipped(path: Path) -> Path:
    parts = list(itertools.dropwhile(lambda part: part == "..", path.parts))
    return SHIPPED.joinpath(*parts) if parts[:1] in ([folder] for folder in _FOLDERS) else path
