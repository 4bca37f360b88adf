from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from rewards.library.ocr.reader import Reading, crop, enlarge, ink_box
from rewards.library.ocr.reward import Ocr
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.types import Prompt, Sample, UserError

WORDS = "CAT DOG SUN MOON STAR FISH BIRD TREE BOOK LAMP DOOR KEY CUP HAT BOX CAR BUS MAP PEN RED".split()


def draw(word: str, row: int = 1, column: int = 0) -> np.ndarray:
    """64 x 64 pixels, one black capital per 16-pixel cell."""
    picture = Image.new("RGB", (64, 64), (240, 240, 235))
    font = ImageFont.load_default(15)
    for i, letter in enumerate(word):
        place = ((column + i) * 16 + 8, row * 16 + 8)
        ImageDraw.Draw(picture).text(place, letter, fill=(0, 0, 0), font=font, anchor="mm", stroke_width=0.3)
    return np.asarray(picture)


def sample(text: object, picture: np.ndarray, name: str = "p0") -> Sample:
    return Sample("s-" + name, "g", Prompt(name, "a sign", {} if text is None else {"text": text}), picture)


def test_ink_box_and_crop_by_hand() -> None:
    picture = np.full((64, 64, 3), 240, np.uint8)
    assert ink_box(picture) is None
    picture[20:30, 10:40] = 0
    assert ink_box(picture) == (9, 19, 41, 31)
    assert crop(picture, (9, 19, 41, 31)).shape == (48, 128, 3)
    picture[0, 0] = 0
    assert ink_box(picture) == (0, 0, 41, 31)


def test_small_pictures_are_enlarged_with_a_margin_and_large_ones_left_alone() -> None:
    picture = np.full((64, 32, 3), 200, np.uint8)
    assert enlarge(picture, 128, 16).shape == (256 + 32, 128 + 32, 3)
    assert set(np.unique(enlarge(picture, 128, 16))) == {200}
    large = np.zeros((512, 512, 3), np.uint8)
    assert enlarge(large, 128, 16) is large


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grading": "soft"}, "ocr.options.grading is 'soft': it must be 'strict', 'lenient', 'exact' or 'words'"),
        ({"case": "upper"}, "ocr.options.case is 'upper': it must be 'ignore' or 'keep'"),
        ({"order": "any"}, "ocr.options.order is 'any': it must be 'lines' or 'free'"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Ocr(**options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def written(text: str, width: int) -> np.ndarray:
    picture = Image.new("RGB", (width, 48), (255, 255, 255))
    ImageDraw.Draw(picture).text((8, 24), text, font=ImageFont.load_default(26), fill=(0, 0, 0), anchor="lm")
    return np.asarray(picture)


@pytest.mark.parametrize("detect", [False, True])
def test_a_reading_does_not_depend_on_what_else_is_in_the_batch(detect: bool) -> None:
    ocr = Ocr(detect=detect)
    long = "the quick brown fox jumps over the lazy dog and runs far away"
    samples = [
        sample(word, written(word, width), str(i))
        for i, (word, width) in enumerate([("CAT", 96), (long, 800), ("MOON 42", 192), (long[:40], 560), ("ILl1", 96)])
    ]
    together, alone = ocr(samples), [ocr([one])[0] for one in samples]
    assert [score.details["lines"] for score in together] == [score.details["lines"] for score in alone]
    assert all(score.details["lines"] for score in together)


def asked() -> list[Sample]:
    good = [sample(word, draw(word, i % 4, i % (5 - len(word))), word) for i, word in enumerate(WORDS)]
    odd = [
        sample(None, draw("CAT"), "no-target"),
        sample(" \u200b", draw("CAT"), "blank"),
        sample("Привет", draw("CAT"), "foreign"),
        sample("CAT", np.full((64, 64, 3), 240, np.uint8), "empty"),
        sample("DOG", draw("CAT"), "wrong"),
    ]
    return good + odd


def check(scores: Sequence[object]) -> None:
    read = [s for s in scores[: len(WORDS)] if s.details["exact"] == 1.0]  # type: ignore[attr-defined]
    assert len(read) >= len(WORDS) - 1
    no_target, blank, foreign, empty, wrong = scores[len(WORDS) :]
    assert (no_target.value, no_target.failed) == (None, False)  # type: ignore[attr-defined]
    assert (
        blank.failure == "prompt 'blank': text is ' \\u200b', it must be a text, or a list of lines, that is not blank"
    )  # type: ignore[attr-defined]
    assert foreign.failure == (  # type: ignore[attr-defined]
        "prompt 'foreign': text is 'Привет', and PP-OCRv5_mobile_rec does not know 'п р и в е т'; name a model that "
        "does by the option `rec_dir`, or take the prompt out"
    )
    assert (empty.value, empty.passed, empty.details["read"]) == (0.0, 0.0, "")  # type: ignore[attr-defined]
    assert wrong.value == 0.0  # type: ignore[attr-defined]


def test_paddle_reads_small_words_in_the_pool_and_the_parent_stays_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "paddle", raising=False)  # another test may have imported it in this process
    rewards = {
        "ocr": RewardComponent(use="ocr"),
        "line": RewardComponent(use="ocr", options={"detect": False, "rec_width": 200}),
    }
    with RewardPool(rewards) as pool:
        by_reward = pool.score(asked())
    check(by_reward["ocr"])
    check(by_reward["line"])
    assert "paddle" not in sys.modules


def test_importing_the_reward_imports_no_paddle() -> None:
    code = "import sys, rewards.library.ocr.reward; sys.exit(any(name.startswith('paddle') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    """Milliseconds per picture and exact matches: ``pytest -m slow -s tests/rewards/library/ocr/test_ocr.py``."""
    pictures = [sample(word, draw(word, i % 4, i % (5 - len(word))), f"{word}{i}") for i, word in enumerate(WORDS * 3)]
    settings = {
        "detect, side 128": {},
        "detect, side 256": {"side": 256},
        "line, width 320": {"detect": False},
        "line, width 200": {"detect": False, "rec_width": 200},
        "line, width 200, one by one": {"detect": False, "rec_width": 200, "batch_size": 1},
    }
    for name, options in settings.items():
        with RewardPool({"ocr": RewardComponent(use="ocr", options=options)}) as pool:
            pool.score(pictures[:2])
            began = time.monotonic()
            scores = pool.score(pictures)["ocr"]
            took = (time.monotonic() - began) / len(pictures)
        exact = sum(score.details["exact"] for score in scores)
        with capsys.disabled():
            print(f"\n{name}: {1000 * took:.1f} ms a picture, exact {exact:.0f} of {len(pictures)}", end="")
        assert exact >= 0.9 * len(pictures)


def test_a_recogniser_that_reads_nothing_is_found_by_the_golden_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute:
        dictionary = None

        def __init__(self, **options: object) -> None: ...

        def read(self, pictures: Sequence[np.ndarray]) -> list[Reading]:
            return [Reading()] * len(pictures)

    monkeypatch.setattr("rewards.library.ocr.reward.Reader", Mute)
    with pytest.raises(UserError) as caught:
        load_reward("ocr", "ocr", {})
    assert str(caught.value) == (
        "rewards.ocr: the golden probe found it dead or wrong: on its reference picture 'CAT' it scores 0, "
        "a working one at least 0.9; check its weights and versions, or set `probe: false` on it"
    )
