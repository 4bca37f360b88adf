"""The reference picture in a prompt's metadata: an array, or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def read_reference(reference: object) -> NDArray[np.uint8]:
    """The reference as (H, W, 3) uint8 RGB. Raises ``ValueError`` saying what is wrong.

    Files: whatever PIL reads; turned upright by their EXIF orientation, transparency dropped.
    """
    if isinstance(reference, np.ndarray):
        if reference.dtype != np.uint8 or reference.ndim != 3 or reference.shape[2] != 3 or reference.size == 0:
            shape = " x ".join(map(str, reference.shape))
            raise ValueError(f"reference is a {reference.dtype} array of {shape}, it must be uint8 of H x W x 3")
        return reference
    if not isinstance(reference, (str, Path)):
        raise ValueError(f"reference is of type {type(reference).__name__}, it must be a path or a uint8 array")
    return _read(str(reference))


def _read(path: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no reference file {path!r}") from error
    # PIL raises SyntaxError for some broken PNG files
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the reference file {path!r} can't be read as a picture ({error})") from error
