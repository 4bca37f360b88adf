"""``SHA256SUMS`` of a folder's weights: ``sha256sum -c SHA256SUMS`` tells whether they arrived whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKSUMS_FILE = "SHA256SUMS"


def write_checksums(folder: Path) -> None:
    """Of every ``.safetensors`` file."""
    files = sorted(folder.rglob("*.safetensors"))
    lines = [f"{_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
