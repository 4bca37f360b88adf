"""Detectors by name (kind ``detectors``): anything with ``detect(pictures) -> list of lists of Detection``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.construct import build, load
from rl.types import Detection, Detector, UserError

_WHERE = "geneval.options"


def load_detector(use: str, options: Mapping[str, Any] | None = None) -> Detector:
    """Build the detector ``use`` with its options; raises ``UserError`` naming what does not fit."""
    at, options_at = f"{_WHERE}.detector", f"{_WHERE}.detector_options"
    detector = build(load("detectors", at, use), options or {}, where=at, options_at=options_at, use=use)
    if not callable(getattr(detector, "detect", None)):
        raise UserError(f"{at}: {use!r} builds a {type(detector).__name__} without a `detect(pictures)` method; add it")
    return detector


def detect(detector: Detector, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
    """N pictures in, N lists of detections out; raises ``RuntimeError`` if the detector loses count."""
    found = detector.detect(pictures) if pictures else []
    if len(found) != len(pictures):
        raise RuntimeError(f"the detector answered {len(found)} lists for {len(pictures)} pictures")
    return found
