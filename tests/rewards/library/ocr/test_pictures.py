"""PaddleOCR on pictures rendered here: sizes, colours, grounds, several lines, accents; and what it cannot read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.types import Prompt, Sample, Score

Color = tuple[int, int, int]

# Thirty texts: letters of both cases, digits, punctuation, one to four words.
TEXTS = (
    "HELLO WORLD|Fresh Coffee 2024|OPEN 24/7|Mind the gap|50% OFF!|Don't panic|12:30 PM|$19.99|Why?|C-3PO|"
    "STOP|Happy Birthday|Room 101|Wet Paint|No Smoking|Platform 9|Good Morning|SALE|Exit|Total: 42|"
    "Rock & Roll|Est. 1987|Keep left|hello@mail|Do not enter|Chapter 3|Green Tea|Lost dog|Big Ben|Version 2.0"
).split("|")
SIZES = (14, 18, 24, 32, 40, 52)  # pixels; the longest text is then 440 wide
COLORS: tuple[tuple[Color, Color], ...] = (  # letters, ground
    ((0, 0, 0), (255, 255, 255)),
    ((255, 255, 255), (0, 0, 0)),
    ((250, 240, 200), (20, 30, 60)),
    ((180, 20, 20), (245, 240, 220)),
    ((255, 220, 0), (0, 90, 60)),
)
# What PP-OCRv5 mobile reads with its marks, in a font that has them.
ACCENTS = ("Café crème", "Zürich 2024", "El niño", "façade", "Señor Müller", "ÉCOLE")


def render(text: str, size: int, ink: Color, ground: Color, font: str | None = None, side: int = 512) -> np.ndarray:
    picture = Image.new("RGB", (side, side), ground)
    face = ImageFont.load_default(size) if font is None else ImageFont.truetype(font, size)
    ImageDraw.Draw(picture).text((side // 2, side // 2), text, font=face, fill=ink, anchor="mm")
    return np.asarray(picture)


def grid() -> list[Sample]:
    """Every size with every pair of colours once: 6 x 5 = 30."""
    return [sample(text, render(text, SIZES[i % len(SIZES)], *COLORS[i // len(SIZES)])) for i, text in enumerate(TEXTS)]


def sample(text: object, picture: np.ndarray) -> Sample:
    return Sample(f"s-{text}", "g", Prompt("p", "a sign", {"text": text}), picture)


def wrong(samples: Sequence[Sample], scores: Sequence[Score]) -> list[tuple[object, object]]:
    return [
        (s.prompt.metadata["text"], score.details["read"])
        for s, score in zip(samples, scores, strict=True)
        if not score.passed
    ]


Read = Callable[[Sequence[Sample]], list[Score]]


@contextmanager
def reading(**options: object) -> Iterator[Read]:
    """The reward in a worker process: Paddle stays out of the one that runs the tests."""
    with RewardPool({"ocr": RewardComponent(use="ocr", options=options)}) as pool:
        yield lambda samples: pool.score(samples)["ocr"]


@pytest.fixture(scope="module")
def ocr() -> Iterator[Read]:
    with reading() as read:
        yield read


def test_thirty_rendered_texts(ocr: Read, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the number read exactly: ``pytest -s tests/rewards/library/ocr/test_pictures.py``."""
    samples = grid()
    assert len(samples) == 30
    misread = wrong(samples, ocr(samples))
    with capsys.disabled():
        print(f"\nread exactly: {30 - len(misread)} of 30; the others: {misread}", end="")
    assert len(misread) <= 2


def test_a_dark_picture_with_light_lines_and_where_they_are(ocr: Read) -> None:
    picture = Image.new("RGB", (400, 200), (20, 30, 60))
    draw, font, inks = ImageDraw.Draw(picture), ImageFont.load_default(36), {}
    for word, place in {"coffee": (40, 130), "hot": (250, 40), "very": (40, 40)}.items():
        draw.text(place, word, font=font, fill=(250, 240, 200))
        inks[word] = draw.textbbox(place, word, font=font)
    (score,) = ocr([sample(["very hot", "coffee"], np.asarray(picture))])
    assert (score.value, score.passed, score.details["read"]) == (1.0, 1.0, "very hot coffee")
    first, second = score.details["lines"]
    assert (first["text"], second["text"]) == ("very hot", "coffee")
    assert min(first["confidence"], second["confidence"]) > 0.8
    # the detector's boxes stand some pixels off the ink
    hull = (*np.minimum(inks["very"][:2], inks["hot"][:2]), *np.maximum(inks["very"][2:], inks["hot"][2:]))
    assert first["box"] == pytest.approx(hull, abs=8)
    assert second["box"] == pytest.approx(inks["coffee"], abs=8)


def test_boxes_are_in_the_pixels_of_a_small_picture(ocr: Read) -> None:
    picture = render("Hello", 20, (0, 0, 0), (240, 240, 235), side=64)  # enlarged twice, with a margin, to be read
    (score,) = ocr([sample("Hello", picture)])
    (line,) = score.details["lines"]
    rows, columns = np.nonzero(picture.mean(axis=2) < 128)
    assert line["box"] == pytest.approx((columns.min(), rows.min(), columns.max(), rows.max()), abs=6)
    assert score.passed == 1.0


def test_two_lines_in_order_and_free(ocr: Read) -> None:
    picture = render("Tea\nHot", 48, (0, 0, 0), (255, 255, 255))
    samples = [sample("hot\ntea", picture), sample(["Tea", "Hot"], picture)]
    in_order = ocr(samples)
    with reading(grading="words", case="keep", order="free") as read:
        free = read(samples)
    assert [(score.value, score.passed) for score in in_order] == [(0.0, 0.0), (1.0, 1.0)]  # teahot -> hottea: 6 of 6
    assert [(score.value, score.passed) for score in free] == [(0.0, 0.0), (1.0, 1.0)]
    assert [score.details["strict"] for score in free] == [pytest.approx(1 - 2 / 6), 1.0]  # hot Hot, tea Tea


def test_a_blank_picture_is_a_zero_and_not_a_failure(ocr: Read) -> None:
    (score,) = ocr([sample("CAT", np.full((256, 256, 3), 200, np.uint8))])
    assert (score.value, score.passed, score.failure) == (0.0, 0.0, None)
    assert (score.details["read"], score.details["lines"], score.details["precision"]) == ("", [], 0.0)


@pytest.mark.parametrize("text", [["CAT", 3], 7, ["", " "], []])
def test_a_target_that_is_no_text_is_a_failure(ocr: Read, text: object) -> None:
    (score,) = ocr([sample(text, np.zeros((64, 64, 3), np.uint8))])
    assert score.failure == f"prompt 'p': text is {text!r}, it must be a text, or a list of lines, that is not blank"


def test_accents_are_read(ocr: Read) -> None:
    cv2 = find_spec("cv2")  # its package carries the DejaVu fonts; Pillow's own font has no accents
    assert cv2 is not None
    assert cv2.origin is not None
    font = Path(cv2.origin).parent / "qt" / "fonts" / "DejaVuSans.ttf"
    if not font.is_file():
        pytest.skip(f"this build of OpenCV carries no {font.name}")
    samples = [sample(text, render(text, 40, (20, 20, 40), (245, 240, 220), str(font))) for text in ACCENTS]
    assert wrong(samples, ocr(samples)) == []


def test_pictures_rendered_elsewhere(ocr: Read, capsys: pytest.CaptureFixture[str]) -> None:
    if "EASEL_TEST_WEIGHTS" not in os.environ:
        pytest.skip("EASEL_TEST_WEIGHTS names no folder with images/text/")
    texts = {"t0": "HELLO WORLD", "t2": "Fresh Coffee 2024"}
    files = sorted(Path(os.environ["EASEL_TEST_WEIGHTS"], "images", "text").glob("t*_s*.png"))
    assert len(files) >= 12
    named = [re.match("t[0-9]+", file.name) for file in files]
    samples = [
        sample(texts[name[0]], np.asarray(Image.open(file).convert("RGB")))
        for name, file in zip(named, files, strict=True)
        if name
    ]
    read = [score.details["read"] for score in ocr(samples)]
    exact = sum(found == s.prompt.metadata["text"] for s, found in zip(samples, read, strict=True))
    with capsys.disabled():
        print(f"\nread exactly, with case and spaces: {exact} of {len(samples)}", end="")
    assert exact == len(samples)
