"""The picture files of a folder: which there are, whatever the case of their endings, and how one is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rl.data.pictures import PictureError, read_file
from rl.types import UserError

ENDINGS: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")


def is_picture(path: Path) -> bool:
    """By its ending. A folder is none; a link that leads nowhere is, and fails when it is read."""
    return path.suffix.lower() in ENDINGS and not path.is_dir()


def is_hidden(path: Path) -> bool:
    """Such as the ``._cat.png`` that macOS writes beside a ``cat.png``, which holds no picture."""
    return path.name.startswith(".")


def same_name(text: str) -> str:
    """Names that look the same are the same: macOS takes letters and their accents apart (Unicode's NFD)."""
    return unicodedata.normalize("NFC", text)


def without_doubles(files: Iterable[Path]) -> list[Path]:
    """The files. Raises ``UserError`` if two are one picture: they differ only in their endings or in Unicode form."""
    seen: dict[tuple[Path, str], Path] = {}
    for file in files:
        other = seen.setdefault((file.parent, same_name(file.stem)), file)
        if other != file:
            raise UserError(
                f"{file.parent} holds {other.name!a} and {file.name!a}, and only one of them can be the "
                f"picture {same_name(file.stem)!r}; move the other away"
            )
    return list(seen.values())


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. Raises ``PictureError`` saying why the file cannot be scored."""
    try:
        return read_file(path)
    except PictureError as error:
        raise PictureError(f"can't be read as a picture: {error}") from error


def file_bytes(path: Path) -> bytes:
    """Raises ``UserError`` if the picture has gone since the folder was listed."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"the picture {path} can't be read: {error}") from error
