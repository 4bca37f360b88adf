"""What one 16 x 16 cell can hold: coverage masks of shapes and letters, and the palette."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

CELL = 16
GRID = 4
SIDE = CELL * GRID
BACKGROUND = (240, 240, 236)
CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "yellow": (240, 200, 20),
    "green": (40, 160, 60),
    "blue": (40, 90, 220),
    "purple": (150, 50, 190),
    "black": (24, 24, 24),
}
SIZES = ("small", "large")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RADIUS = {"small": 5.0, "large": 7.0}
_OUTLINE = 0.75  # pixels
_SUPER = 8  # supersampling, for anti-aliased edges


@cache
def shape_mask(name: str, size: str) -> NDArray[np.float32]:
    """Coverage in [0, 1] of one shape centred in its cell: (16, 16)."""
    return _shrink(_shape(name, size))


@cache
def outline_mask(name: str, size: str) -> NDArray[np.float32]:
    """Coverage of a thin line around one shape, outside of it: (16, 16)."""
    width = 2 * round(_OUTLINE * _SUPER) + 1
    shape = _shape(name, size)
    return _shrink(ImageChops.subtract(shape.filter(ImageFilter.MaxFilter(width)), shape))


def _shape(name: str, size: str) -> Image.Image:
    side = CELL * _SUPER
    image = Image.new("L", (side, side), 0)
    draw, centre, radius = ImageDraw.Draw(image), side / 2, _RADIUS[size] * _SUPER
    box = (centre - radius, centre - radius, centre + radius, centre + radius)
    if name == "circle":
        draw.ellipse(box, fill=255)
    elif name == "ring":
        draw.ellipse(box, fill=255)
        inner = radius * 0.5
        draw.ellipse((centre - inner, centre - inner, centre + inner, centre + inner), fill=0)
    elif name == "square":
        half = radius * 0.88
        draw.rectangle((centre - half, centre - half, centre + half, centre + half), fill=255)
    elif name == "cross":
        arm = radius * 0.34
        draw.rectangle((centre - radius, centre - arm, centre + radius, centre + arm), fill=255)
        draw.rectangle((centre - arm, centre - radius, centre + arm, centre + radius), fill=255)
    else:
        draw.polygon(_polygon(name, centre, radius), fill=255)
    return image


def _polygon(name: str, centre: float, radius: float) -> list[tuple[float, float]]:
    if name == "triangle":
        angles, radii = [-90, 30, 150], [radius * 1.1] * 3
        centre_y = centre + radius * 0.2
    else:
        angles, radii = list(range(-90, 270, 36)), [radius * 1.05, radius * 0.42] * 5
        centre_y = centre
    turns = np.deg2rad(angles)
    return [(centre + r * float(np.cos(t)), centre_y + r * float(np.sin(t))) for r, t in zip(radii, turns, strict=True)]


@cache
def letter_mask(letter: str) -> NDArray[np.float32]:
    """Coverage of one capital letter centred in its cell: (16, 16)."""
    side = CELL * _SUPER
    image = Image.new("L", (side, side), 0)
    font = ImageFont.load_default(15 * _SUPER)  # Pillow's own scalable font: the same on every machine
    ImageDraw.Draw(image).text(
        (side / 2, side / 2), letter, fill=255, font=font, anchor="mm", stroke_width=_SUPER // 3, stroke_fill=255
    )
    return _shrink(image)


def _shrink(image: Image.Image) -> NDArray[np.float32]:
    pixels = np.asarray(image, dtype=np.float32) / 255.0
    return pixels.reshape(CELL, _SUPER, CELL, _SUPER).mean((1, 3))


def blend(mask: NDArray[np.float32], color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A coloured mask over the background: (16, 16, 3) uint8."""
    ground, ink = np.array(BACKGROUND, np.float32), np.array(color, np.float32)
    return (ground + mask[..., None] * (ink - ground)).round().astype(np.uint8)


def blank() -> NDArray[np.uint8]:
    return np.full((CELL, CELL, 3), BACKGROUND, np.uint8)


@cache
def every_cell() -> NDArray[np.uint8]:
    """All distinct cells of the world: (N, 16, 16, 3)."""
    shapes = [blend(shape_mask(n, s), c) for n in CLASSES for s in SIZES for c in COLORS.values()]
    letters = [blend(letter_mask(letter), COLORS["black"]) for letter in LETTERS]
    return np.stack([blank(), *shapes, *letters])
