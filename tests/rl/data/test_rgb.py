"""One picture, one verdict: what a file shows, whatever kind it is and whoever reads it."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from rewards.pictures import decode
from rewards.reference import read_reference
from rewards.score.files import read_picture
from rl.data.pictures import Picture, PictureError, read_file

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
GREY = np.array([[0, 127, 128, 255]], np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def shades(pixels_HW3: np.ndarray) -> list[int]:
    """Of a grey picture, row by row."""
    assert np.ptp(pixels_HW3.astype(int), axis=2).max() == 0
    return pixels_HW3[..., 0].ravel().tolist()


READERS: dict[str, Callable[[bytes, Path], np.ndarray]] = {
    "a prompt's picture": lambda content, file: Picture(file).pixels,
    "rewards.score and rewards.geneval": lambda content, file: read_picture(file),
    "a reference": lambda content, file: read_reference(str(file)),
    "an upload": lambda content, file: decode(content, "png", 100),
}
PNGS: dict[str, bytes] = {
    **{f"orientation {turn}": encoded(Image.fromarray(PIXELS), exif=turned(turn)) for turn in range(1, 9)},
    "16 bits grey": encoded(Image.fromarray(np.arange(24, dtype=np.uint16).reshape(4, 6) * 2700)),
    "16 bits colour": cv2.imencode(".png", np.arange(72, dtype=np.uint16).reshape(4, 6, 3) * 900)[1].tobytes(),
    "transparent": encoded(Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))),
    "grey": encoded(Image.fromarray(PIXELS[..., 0])),
    "grey, transparent": encoded(Image.fromarray(PIXELS[..., :2], "LA")),
    "palette": encoded(Image.fromarray(PIXELS).quantize(16)),
    "palette, transparent": encoded(Image.fromarray(PIXELS).quantize(16), transparency=3),
    "black and white": encoded(Image.fromarray(PIXELS[..., 0]).convert("1")),
}


@pytest.mark.parametrize("kind", PNGS)
def test_every_command_sees_the_same_picture(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNGS[kind])
    seen = {reader: read(PNGS[kind], tmp_path / "a.png") for reader, read in READERS.items()}
    first = seen.pop("a prompt's picture")
    assert first.dtype == np.uint8 and first.shape[2] == 3
    for reader, pixels in seen.items():
        assert np.array_equal(pixels, first), reader


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_turned_picture_is_upright_in_every_format(kind: str) -> None:
    for orientation, upright in {
        2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud, 6: lambda p: np.rot90(p, -1), 8: np.rot90,
    }.items():  # fmt: skip
        how: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
        plain = read_file(encoded(Image.fromarray(PIXELS), kind, **how))
        assert np.array_equal(
            read_file(encoded(Image.fromarray(PIXELS), kind, exif=turned(orientation), **how)), upright(plain)
        )


def test_what_is_transparent_lies_on_white() -> None:
    hidden = np.full((1, 3, 4), 200, np.uint8)
    hidden[0, :, 3] = (0, 255, 128)
    assert read_file(encoded(Image.fromarray(hidden)))[0].tolist() == [[255] * 3, [200] * 3, [227] * 3]
    grey = Image.fromarray(np.array([[[7, 0], [7, 255]]], np.uint8), "LA")
    assert shades(read_file(encoded(grey))) == [255, 7]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 50, 50])
    assert shades(read_file(encoded(palette, transparency=0))) == [255, 50]
    assert shades(read_file(encoded(palette, "GIF", transparency=1))) == [9, 255]
    assert shades(read_file(encoded(Image.fromarray(GREY), transparency=127))) == [0, 255, 128, 255]
    assert np.array_equal(
        read_file(encoded(Image.fromarray(np.dstack([PIXELS, np.full((4, 6), 255, np.uint8)])))), PIXELS
    )


def test_of_sixteen_bits_the_upper_eight_are_taken() -> None:
    grey = np.array([[0, 255, 256, 0x7FFF, 65535]], np.uint16)
    wanted = [0, 0, 1, 0x7F, 255]
    assert shades(read_file(encoded(Image.fromarray(grey)))) == wanted
    assert shades(read_file(encoded(Image.fromarray(grey), "TIFF"))) == wanted
    assert shades(read_file(encoded(Image.fromarray(grey), transparency=256))) == [0, 0, 255, 0x7F, 255]
    color = np.zeros((1, 2, 3), np.uint16)
    color[0, 1] = 0x1234
    assert shades(read_file(cv2.imencode(".png", color)[1].tobytes())) == [0, 0x12]
    exif = encoded(Image.fromarray(grey), exif=turned(6))
    assert read_file(exif).shape == (5, 1, 3)


def test_grey_cmyk_and_black_and_white_are_rgb() -> None:
    assert shades(read_file(encoded(Image.fromarray(GREY)))) == GREY.ravel().tolist()
    assert shades(read_file(encoded(Image.fromarray(GREY > 127)))) == [0, 0, 255, 255]
    cmyk = Image.fromarray(np.array([[[0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8), "CMYK")
    for kind in ("TIFF", "JPEG"):
        black, white = shades(read_file(encoded(cmyk.resize((32, 16), Image.Resampling.NEAREST), kind)))[:32:31]
        assert (black, white) == (0, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (6, 4), (shade, shade, shade)) for shade in (10, 200, 90)]
    how: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how)
    assert set(shades(read_file(content))) == {10}


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_known_white_are_refused(kind: type) -> None:
    with pytest.raises(PictureError, match=r"it has 32 bits a channel \(PIL's mode '[FI]'\), and nothing says which"):
        read_file(encoded(Image.fromarray(np.ones((2, 2), kind)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"])
def test_broken_files_are_read_or_refused(kind: str) -> None:
    rng = random.Random(0)
    whole = encoded(
        Image.fromarray(PIXELS.repeat(6, 0).repeat(6, 1)), kind, **({} if kind == "BMP" else {"exif": turned(6)})
    )
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            content[rng.randrange(min(len(content), 300))] = rng.randrange(256)
        try:
            assert read_file(bytes(content[: rng.choice([None, rng.randrange(len(content))])]), 10**5).ndim == 3
        except PictureError as error:
            assert str(error)
            refused += 1
    assert refused > 30
