"""What a prompt's metadata say of a picture to compare with: the reference, and the part that may change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rl.data.pictures import PictureError, is_pixels, read_file

REFERENCE: Final = "reference"
"""Its key in the metadata."""
MASK: Final = "mask"
"""The usual key of the part that may change: white, in a picture."""
_WHITE = 128  # from this grey on


def file_hash(metadata: Mapping[str, object]) -> str | None:
    """Of the content of the files that are the reference and the mask; ``None`` without, or if none can be read."""
    found = [_file_hash(metadata.get(key)) for key in (REFERENCE, MASK)]
    return "".join(one for one in found if one) or None


def _file_hash(path: object) -> str | None:
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


def read_mask(given: object, height: int, width: int) -> NDArray[np.bool_]:
    """(height, width): where something may change. Raises ``ValueError`` saying what is wrong.

    ``given``: a picture (path or array) that is white there, boxes ``[[x0, y0, x1, y1], ...]`` in shares of the
    picture, or a mapping whose ``editable`` holds such boxes.
    """
    boxes = given.get("editable") if isinstance(given, Mapping) else given
    if isinstance(boxes, Sequence) and not isinstance(boxes, str):
        return _of_boxes(boxes, height, width)
    if isinstance(given, Mapping):
        raise ValueError(f"the part that may change is a mapping with 'editable' {boxes!r}: it must be a list of boxes")
    grey = Image.fromarray(read_reference(given)).convert("L").resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(grey) >= _WHITE


def _of_boxes(boxes: Sequence[object], height: int, width: int) -> NDArray[np.bool_]:
    inside = np.zeros((height, width), bool)
    for box in boxes:
        try:
            x0, y0, x1, y1 = (float(value) for value in box)  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            raise ValueError(
                f"the part that may change has the entry {box!r}, which is no box [x0, y0, x1, y1]"
            ) from None
        inside[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
    return inside
