"""Pictures that belong to prompts, and the one way in which a picture file is read.

Nothing heavy is imported here: a reward's own interpreter may have numpy and no PIL, and gets its pictures as arrays.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rl.data.rgb import rgb
from rl.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS: Final = 64 * 2**20
"""Of one picture file: width times height."""
_BROKEN: Final = (  # what Pillow raises on bytes that are no sound picture
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, RuntimeError),
    *(struct.error, zlib.error),
)
_KEPT_BYTES = 512 * 2**20  # decoded files: a step needs the same ones several times, a run not all of them for ever


class PictureError(Exception):
    """The bytes are no picture that can be used; the message says why."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a prompt, decoded when it is first looked at.

    ``Picture(Path("cat.png"))`` of 640 x 480 has ``pixels.shape == (480, 640, 3)``; ``rl.data.rgb``
    says how files are read. Equal are pictures of the same file, bytes or array; ``digest`` tells whether two show the
    same.
    Pickled, it is its source: the path of a file, or the pixels of an array.
    """

    source: Path | bytes | NDArray[np.uint8]
    """A file, the bytes of one, or an (H, W, 3) uint8 RGB array, which must not be changed any more."""

    def __post_init__(self) -> None:
        """Raises UserError if an array has another shape or type."""
        if isinstance(self.source, np.ndarray) and not is_pixels(self.source):
            shape = " x ".join(map(str, self.source.shape))
            raise UserError(
                f"a prompt's picture is a {self.source.dtype} array of {shape}, it must be uint8 of H x W x 3"
            )

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, read-only. Raises UserError naming the file if it can't be read."""
        if isinstance(self.source, np.ndarray):
            return _read_only(self.source)
        try:
            return _DECODED.get(self.source)
        except PictureError as error:
            raise UserError(f"{self.name} can't be read: {error}; replace the file") from error

    @cached_property
    def digest(self) -> str:
        """A hash of the pixels and their shape, so that a copy under another name, or in another format, has the same.

        Raises UserError as ``pixels``.
        """
        return pixels_digest(self.pixels)

    @property
    def name(self) -> str:
        """In messages: ``the picture 'cat.png'``."""
        return f"the picture {str(self.source)!r}" if isinstance(self.source, Path) else "the picture"

    def in_memory(self) -> Picture:
        """The same picture as an array, for processes that may not reach the file. Raises UserError as ``pixels``."""
        return self if isinstance(self.source, np.ndarray) else Picture(self.pixels)

    def check(self) -> None:
        """Raises ``PictureError`` if its file has no header of a picture or too many pixels; nothing is decoded."""
        if not isinstance(self.source, np.ndarray):
            with _opened(self.source):
                pass

    @cached_property
    def _identity(self) -> Path | str:
        if isinstance(self.source, Path):
            return self.source
        return self.digest if isinstance(self.source, np.ndarray) else hashlib.sha256(self.source).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and (self is other or self._identity == other._identity)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        source = self.source
        return f"Picture({f'array of {source.shape}' if isinstance(source, np.ndarray) else repr(source)[:80]})"

    def __reduce__(self) -> tuple[type[Picture], tuple[Path | bytes | NDArray[np.uint8]]]:
        return Picture, (self.source,)


def is_pixels(value: object) -> TypeGuard[NDArray[np.uint8]]:
    """Whether it is an (H, W, 3) uint8 array with pixels."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and value.ndim == 3
        and value.shape[2] == 3
        and value.size > 0
    )


def read_file(
    source: str | Path | bytes, most_pixels: int = MOST_PIXELS, formats: tuple[str, ...] | None = None
) -> NDArray[np.uint8]:
    """Any picture that PIL reads (``formats``: only these), a file or its bytes, as ``rl.data.rgb`` shows it.

    (H, W, 3) uint8 RGB, read-only. Raises ``PictureError``, also above ``most_pixels``.
    """
    with _opened(source, most_pixels, formats) as picture:
        picture.verify()  # PNG's checksums to the last chunk: one cut short may hold enough to fill the picture
    with _opened(source, most_pixels, formats) as picture:
        return _read_only(rgb(picture))


def pixels_digest(pixels: NDArray[np.uint8]) -> str:
    """Of the shape and the bytes."""
    found = hashlib.sha256(f"{pixels.shape}\n".encode())
    found.update(np.ascontiguousarray(pixels).data)
    return found.hexdigest()


@contextmanager
def _opened(
    source: str | Path | bytes, most_pixels: int = MOST_PIXELS, formats: tuple[str, ...] | None = None
) -> Iterator[Image]:
    """Its header is read; whatever PIL finds wrong with it, here or later, is a ``PictureError``."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit is ours, and lower; and of odd metadata
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as picture:
                if picture.width * picture.height > most_pixels:
                    pixels = picture.width * picture.height
                    raise PictureError(f"it has {pixels:,} pixels, more than the {most_pixels:,} that are accepted")
                yield picture
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise PictureError(" ".join(str(error).split()) or type(error).__name__) from error


class _Kept:
    """Decoded files, the least recently used ones forgotten above ``most_bytes``. For several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._pixels: OrderedDict[Path | bytes, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, source: Path | bytes) -> NDArray[np.uint8]:
        with self._lock:
            if source in self._pixels:
                self._pixels.move_to_end(source)
                return self._pixels[source]
        pixels = read_file(source)
        with self._lock:
            if source not in self._pixels:
                self._pixels[source] = pixels
                self._bytes += pixels.nbytes
            while self._bytes > self._most_bytes and len(self._pixels) > 1:
                self._bytes -= self._pixels.popitem(last=False)[1].nbytes
        return pixels


_DECODED = _Kept(_KEPT_BYTES)


def _read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not pixels.flags.writeable:
        return pixels
    view = pixels.view()
    view.setflags(write=False)
    return view
