"""PNG and .npy bytes <-> pictures (H, W, 3) uint8, for bytes that may come from anybody.

Width and height are read from the header and checked before anything is decoded, so a small file cannot unpack to
gigabytes. A PNG is read as every picture file is (``rl.data.pictures.read_file``), so it has the same score wherever it
comes from. Nothing is ever unpickled.
"""

from __future__ import annotations

import re
import struct
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rl.data.pictures import PictureError, read_file

Encoding = Literal["png", "npy"]

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">8sI4sII")  # signature, chunk length, chunk type, width, height
_NPY_START = b"\x93NUMPY"
# As numpy writes it for a plain array. Anything else, a Python expression after all, never reaches a parser.
_NPY_HEADER = re.compile(
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,80})\), \} *\n"
)
_NPY_HEADER_LIMIT = 1024


def encode(picture: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """``picture`` (H, W, 3) uint8 as a PNG (smaller) or as .npy (no time lost on compression); both are lossless."""
    buffer = BytesIO()
    if encoding == "npy":
        np.save(buffer, np.ascontiguousarray(picture), allow_pickle=False)
    else:
        from PIL import Image

        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def checked_pixel_count(content: bytes, encoding: Encoding, max_pixels: int) -> int:
    """Width times height as the header states them. Raises ``PictureError`` on an unfit header or above the limit."""
    pixels = _png_pixels(content) if encoding == "png" else _npy_pixels(content)
    if pixels > max_pixels:
        raise PictureError(f"the picture has {pixels:,} pixels, more than the {max_pixels:,} that are accepted")
    return pixels


def decode(content: bytes, encoding: Encoding, max_pixels: int) -> NDArray[np.uint8]:
    """The picture (H, W, 3), uint8, read-only. Raises ``PictureError`` on broken, unfit or too large ones."""
    checked_pixel_count(content, encoding, max_pixels)
    picture = _read_png(content) if encoding == "png" else _read_npy(content)
    picture.setflags(write=False)
    return picture


def _png_pixels(content: bytes) -> int:
    if not content.startswith(_PNG_START):
        raise PictureError("the picture is not a PNG")
    if len(content) < _PNG_HEADER.size:
        raise PictureError("the PNG is cut short")
    _, _, chunk, width, height = _PNG_HEADER.unpack_from(content)
    if chunk != b"IHDR":
        raise PictureError("the PNG does not begin with its header")
    if not width or not height:
        raise PictureError(f"the picture is {width} x {height} and has no pixels")
    return int(width * height)


def _read_png(content: bytes) -> NDArray[np.uint8]:
    declared = _png_pixels(content)  # the limit was held against them
    try:
        picture = read_file(content, declared, formats=("PNG",))
    except PictureError as error:
        raise PictureError(f"the PNG can't be read: {str(error)[:200]}") from error
    if picture.shape[0] * picture.shape[1] != declared:
        raise PictureError("the PNG has a second header of another size")
    return picture


def _npy_header(content: bytes) -> tuple[str, tuple[int, ...], int]:
    """(dtype, shape, where the data begins)."""
    if not content.startswith(_NPY_START):
        raise PictureError("the picture is not a .npy file")
    length = struct.Struct("<H" if content[6:7] == b"\x01" else "<I")
    start = 8 + length.size
    if len(content) < start:
        raise PictureError("the .npy file is cut short")
    size = length.unpack_from(content, 8)[0]
    header = _NPY_HEADER.fullmatch(content[start : start + size]) if size <= _NPY_HEADER_LIMIT else None
    if header is None:
        raise PictureError("the .npy header is not that of a plain array")
    shape = tuple(int(number) for number in header[3].decode().split(",") if number.strip().isdigit())
    return header[1].decode("ascii", "replace"), shape, start + size


def _npy_pixels(content: bytes) -> int:
    dtype, shape, start = _npy_header(content)
    if dtype != "|u1":
        raise PictureError(f"the .npy array has dtype {dtype!r}, it must be '|u1' (uint8)")
    if len(shape) != 3 or shape[2] != 3:
        raise PictureError(f"the .npy array has shape {shape}, it must be (height, width, 3)")
    pixels = shape[0] * shape[1]
    if not pixels:
        raise PictureError(f"the picture is {shape[1]} x {shape[0]} and has no pixels")
    if len(content) - start != 3 * pixels:
        raise PictureError(f"the .npy file holds {len(content) - start} bytes of data for shape {shape}")
    return pixels


def _read_npy(content: bytes) -> NDArray[np.uint8]:
    try:
        picture = np.load(BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise PictureError(f"the .npy file can't be read: {' '.join(str(error).split())[:200]}") from error
    return np.ascontiguousarray(picture)
