"""What GenEval asks of a detector and of a colour classifier: the seam that your own fits into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detection:
    """One detected object. ``box`` is (x0, y0, x1, y1) in pixels, y down; ``mask_HW`` may be missing."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask_HW: NDArray[np.bool_] | None = None
    color: str | None = None  # a detector that also sees colour says so; else the colour classifier is asked


class Detector(Protocol):
    """Finds objects of the classes it knows: N pictures in, N lists of detections out.

    It may name those classes in an attribute ``classes``; a prompt that asks for another then fails, not scores 0. One
    that names colours too says which in an attribute ``colors``.
    """

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]: ...


@runtime_checkable
class OpenVocabularyDetector(Protocol):
    """Finds what it is asked for: N pictures and N lists of class names in, N lists of detections out.

    The names are those of the picture's own prompt, so a score doesn't depend on what else is in the batch.
    """

    def detect_labels(
        self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[str]]
    ) -> list[list[Detection]]: ...


class ColorClassifier(Protocol):
    """Names the colours of N detected objects; ``detections[i]`` is in ``pictures[i]``.

    It may list its names in an attribute ``colors``; a prompt that asks for another then fails, not scores 0.
    """

    def classify(self, pictures: Sequence[NDArray[np.uint8]], detections: Sequence[Detection]) -> list[str]: ...
