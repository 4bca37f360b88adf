"""The ``quality`` reward: how the picture looks by pixel statistics alone; meant as ``role: monitor``.

Nothing is downloaded, the prompt is not looked at, and every measure is in the details whichever one is the value
(``measure``). Grey values g are in [0, 1], luminance Y' = 255 g. "Photos" are six of 512 pixels that were measured:

- ``sharpness``: ``1 - blur``, blur by Crete et al. 2007 (skimage's ``blur_effect``); [0, 1], photos .6 to .8, the same
  under a Gaussian of 2 pixels .3 to .5.
- ``laplacian``: variance of the Laplacian of Y' (Pech-Pacheco et al. 2000); from 0, photos 400 to 13,000; also rises
  with noise.
- ``noise``: standard deviation of Gaussian noise in grey levels (Immerkaer 1996, eq. 4); photos 2 to 4. Fine texture
  such as dense foliage reads as noise (17).
- ``contrast``: ``2 * std(g)``; [0, 1], photos .25 to .6.
- ``saturation``: mean of ``(max - min) / max`` of the colours (HSV); [0, 1], photos .2 to .7.
- ``colorfulness``: Hasler & Suesstrunk 2003, eq. 3; 0 grey, 33 moderate, 59 quite, 109 extremely; photos 37 to 73.
- ``brightness``: ``mean(g)``; [0, 1].
- ``combined`` (default): ``(sharpness * contrast * 1 / (1 + noise / 10)) ** (1/3)``; [0, 1]. Falls when a picture turns
  blurred, flat or noisy (on five of six photos tried; dense foliage rose when blurred, its texture reading as noise).
  It is ours, not a fitted model: follow it over a run, do not compare systems by it.
- ``brisque``: ``1 - BRISQUE / 100`` (Mittal et al. 2012), [0, 1], by the ``quality`` module of opencv-contrib-python
  (which comes with PaddleOCR) and two files of OpenCV: ``brisque_model_live.yml`` and ``brisque_range_live.yml`` from
  ``modules/quality/samples`` of github.com/opencv/opencv_contrib (Apache-2.0). Computed only if asked for.

**Blind to** meaning: a sharp picture of nothing scores well. Trained on, each can be gamed at once (checkerboards).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import blur_effect

from rewards.library.golden_pictures import two_photographs
from rewards.requires import Requires
from rl.types import Sample, Score, UserError

Measure = Literal[
    "combined", "sharpness", "laplacian", "noise", "contrast", "saturation", "colorfulness", "brightness", "brisque"
]
MEASURES: Final = get_args(Measure)
MIN_SIDE: Final = 4  # pixels; below it nothing is left of the filters
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, on gamma-coded values
_NOISE_MASK: Final = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])


class Quality:
    """Scores pictures by ``measure``. ``brisque_model``, ``brisque_range``: OpenCV's two files, for ``brisque``."""

    requires = Requires(packages=("scikit-image", "scipy"))
    golden = staticmethod(two_photographs)

    def __init__(
        self, measure: Measure = "combined", brisque_model: str | None = None, brisque_range: str | None = None
    ) -> None:
        if measure not in MEASURES:
            raise UserError(f"quality.options.measure is {measure!r}: it must be one of {', '.join(MEASURES)}")
        self.measure = measure
        self._brisque = load_brisque(brisque_model, brisque_range) if measure == "brisque" else None

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores; a picture under 4 pixels a side fails."""
        return [self._score(sample.picture) for sample in samples]

    def _score(self, picture: NDArray[np.uint8]) -> Score:
        height, width = picture.shape[:2]
        if min(height, width) < MIN_SIDE:
            return Score(None, failure=f"the picture is {width} x {height} pixels; quality needs {MIN_SIDE} a side")
        details = statistics(picture)
        if self._brisque is not None:
            brisque = self._brisque(picture)
            if brisque is None:
                return Score(None, failure="BRISQUE is not defined on an even or tiny picture", details=details)
            details["brisque"] = 1 - brisque / 100
        return Score(details[self.measure], details=details)


def statistics(picture: NDArray[np.uint8]) -> dict[str, float]:
    """All measures but ``brisque`` of a (H, W, 3) uint8 picture, both sides at least 4."""
    luma_HW = picture @ _LUMA
    sharpness, contrast, noise = _sharpness(luma_HW / 255), 2 * float(luma_HW.std()) / 255, _noise(luma_HW)
    return {
        "combined": (sharpness * contrast / (1 + noise / 10)) ** (1 / 3),
        "sharpness": sharpness,
        "laplacian": float(ndimage.laplace(luma_HW).var()),
        "noise": noise,
        "contrast": contrast,
        "saturation": _saturation(picture),
        "colorfulness": _colorfulness(picture),
        "brightness": float(luma_HW.mean()) / 255,
    }


def _sharpness(gray_HW: NDArray[np.float64]) -> float:
    blur = float(blur_effect(gray_HW)) if np.ptp(gray_HW) > 0 else 1.0  # an even picture has no edge: 0 / 0
    return 1 - min(max(blur, 0.0), 1.0) if np.isfinite(blur) else 0.0


def _noise(luma_HW: NDArray[np.float64]) -> float:
    response_HW = ndimage.convolve(luma_HW, _NOISE_MASK)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(response_HW).mean())


def _saturation(picture: NDArray[np.uint8]) -> float:
    high_HW, low_HW = picture.max(axis=2).astype(float), picture.min(axis=2)
    return float(np.divide(high_HW - low_HW, high_HW, out=np.zeros_like(high_HW), where=high_HW > 0).mean())


def _colorfulness(picture: NDArray[np.uint8]) -> float:
    red, green, blue = (picture[:, :, channel].astype(float) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def load_brisque(model: str | None, ranges: str | None) -> Callable[[NDArray[np.uint8]], float | None]:
    """Picture -> BRISQUE in [0, 100], 0 best; ``None`` where it is not defined.

    Raises ``UserError`` naming what to install or to download.
    """
    cv2 = _opencv()
    for option, path, name in (
        ("brisque_model", model, "brisque_model_live.yml"),
        ("brisque_range", ranges, "brisque_range_live.yml"),
    ):
        if path is None or not Path(path).is_file():
            raise UserError(
                f"quality.options.{option} is {path!r}: for `measure: brisque` download {name} from modules/quality/"
                f"samples of github.com/opencv/opencv_contrib and set this option to its path"
            )
    try:
        brisque = cv2.quality.QualityBRISQUE_create(model, ranges)
    except cv2.error as error:
        raise UserError(
            f"quality.options.brisque_model, brisque_range: OpenCV can't read {model} and {ranges} "
            f"({' '.join(str(error).split())[:120]})"
        ) from error

    def score(picture: NDArray[np.uint8]) -> float | None:
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        # OpenCV answers 0, the best, where the picture's statistics divide by zero.
        if not np.isfinite(cv2.quality.QualityBRISQUE_computeFeatures(bgr)).all():
            return None
        return float(brisque.compute(bgr)[0])

    return score


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"quality: OpenCV can't be imported ({error}); `pip install opencv-contrib-python`") from error
    if not hasattr(cv2, "quality"):
        raise UserError("quality: this OpenCV has no `quality` module; `pip install opencv-contrib-python` instead")
    return cv2
