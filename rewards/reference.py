"""The reference picture in a prompt's metadata: an array, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rl.data.pictures import PictureError, is_pixels, read_file

REFERENCE: Final = "reference"
"""Its key in the metadata."""


def file_hash(metadata: Mapping[str, object]) -> str | None:
    """Of the content of the file that is the reference; ``None`` without one, or if it can't be read."""
    path = metadata.get(REFERENCE)
    if not isinstance(path, (str, Path)):
        return None
    try:
        state = Path(path).stat()
        return _hash(str(path), state.st_mtime_ns, state.st_size)
    except (OSError, ValueError):
        return None


@lru_cache(4096)
def _hash(path: str, changed_ns: int, size: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_reference(reference: object) -> NDArray[np.uint8]:
    """The reference as (H, W, 3) uint8 RGB. Raises ``ValueError`` saying what is wrong.

    Files: whatever PIL reads, as every command reads pictures (``rl.data.rgb``).
    """
    if isinstance(reference, np.ndarray):
        if not is_pixels(reference):
            shape = " x ".join(map(str, reference.shape))
            raise ValueError(f"reference is a {reference.dtype} array of {shape}, it must be uint8 of H x W x 3")
        return reference
    if not isinstance(reference, (str, Path)):
        raise ValueError(f"reference is of type {type(reference).__name__}, it must be a path or a uint8 array")
    try:
        return read_file(reference)
    except PictureError as error:
        if not Path(reference).exists():
            raise ValueError(f"there is no reference file {str(reference)!r}") from error
        raise ValueError(f"the reference file {str(reference)!r} can't be read as a picture ({error})") from error
