"""Detectors by name (kind ``detectors``): closed-set ones know their classes, open-vocabulary ones are told them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rewards.library.geneval.classes import geneval_name
from rewards.library.geneval.contract import Detection, Detector, OpenVocabularyDetector
from rewards.load import build, load
from rl.registry import did_you_mean
from rl.types import UserError


def load_detector(
    use: str, options: Mapping[str, object] | None = None, *, reward: str = "geneval"
) -> Detector | OpenVocabularyDetector:
    """Build the detector ``use`` of a ``reward`` with its options; raises ``UserError`` naming what does not fit."""
    at, options_at = f"{reward}.options.detector", f"{reward}.options.detector_options"
    detector = build(load("detectors", at, use), options or {}, where=at, options_at=options_at, use=use)
    if not (isinstance(detector, OpenVocabularyDetector) or callable(getattr(detector, "detect", None))):
        raise UserError(
            f"{at}: {use!r} builds a {type(detector).__name__} without a `detect(pictures)` method; add it, "
            f"or `detect_labels(pictures, labels)` if it has to be told what to look for"
        )
    return detector


def detect(
    detector: Detector | OpenVocabularyDetector,
    pictures: Sequence[NDArray[np.uint8]],
    labels: Sequence[Sequence[str]],
) -> list[list[Detection]]:
    """N pictures and the classes asked for in each -> N lists of detections.

    Raises ``RuntimeError`` if the detector loses count or answers no lists.
    """
    if not pictures:
        return []
    if isinstance(detector, OpenVocabularyDetector):
        found = detector.detect_labels(pictures, labels)
    else:
        found = detector.detect(pictures)
    if not isinstance(found, Sequence) or not all(isinstance(row, Sequence) for row in found):
        raise RuntimeError("the detector must answer a list of `Detection`s for each picture, in a list")
    if len(found) != len(pictures):
        raise RuntimeError(f"the detector answered {len(found)} lists for {len(pictures)} pictures")
    return found


def unknown_class(detector: Detector | OpenVocabularyDetector, labels: Sequence[str]) -> str | None:
    """Why a prompt with these classes cannot be judged, or ``None``: 0 for what is never found would be wrong."""
    known = getattr(detector, "classes", None)
    if known is None:
        return None
    for label in labels:
        if label not in known:
            other = geneval_name(label)
            hint = f", did you mean {other!r}?" if other in known else did_you_mean(label, known)
            return f"the detector knows no class {label!r}{hint} (it has {len(known)} classes)"
    return None
