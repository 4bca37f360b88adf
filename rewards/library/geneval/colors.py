"""GenEval's ten colours, and who names them: the detector where it does, else a classifier (``color_classifiers``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rewards.library.geneval.contract import ColorClassifier, Detection, Detector, OpenVocabularyDetector
from rewards.library.geneval.rules import Requirements, accepted
from rewards.load import build, load
from rl.registry import did_you_mean
from rl.types import UserError

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
AUTO = "auto"


def load_colors(
    use: str | None, options: Mapping[str, object] | None = None, *, detector: object = None, reward: str = "geneval"
) -> ColorClassifier | None:
    """Build the colour classifier ``use``; ``None`` believes the detector, ``auto`` as well if it names any colours,
    else it is ``clip``. Raises ``UserError``."""
    at, options_at = f"{reward}.options.colors", f"{reward}.options.colors_options"
    if use == AUTO:
        use = None if getattr(detector, "colors", ()) else "clip"
    if use is None:
        if options:
            raise UserError(f"{options_at} is set but {at} is not: add `colors: clip` or `colors: pixels`")
        return None
    classifier = build(load("color_classifiers", at, use), options or {}, where=at, options_at=options_at, use=use)
    if not callable(getattr(classifier, "classify", None)):
        raise UserError(
            f"{at}: {use!r} builds a {type(classifier).__name__} without a `classify(pictures, detections)` method; "
            f"add it"
        )
    return classifier


def unknown_color(
    detector: Detector | OpenVocabularyDetector, classifier: ColorClassifier | None, wanted: Requirements
) -> str | None:
    """Why a prompt with these colours cannot be judged, or ``None``: 0 for what is never said would be wrong."""
    asked = [clause for clause in wanted.include if clause.color is not None]
    own = getattr(detector, "colors", ())
    named = own if classifier is None else getattr(classifier, "colors", None)
    if not asked or named is None:
        return None
    if not named:
        return (
            f"the prompt asks for a {asked[0].color} {asked[0].label}, but the detector names no colours: set the "
            f"option `colors` to clip or pixels (a detector that does has an attribute `colors`)"
        )
    known = tuple(dict.fromkeys((*own, *named)))
    for clause in asked:
        color = str(clause.color)
        if color not in known:
            near = did_you_mean(color.lower(), known)
            return f"no {clause.label} is ever called {color!r}{near} (the colours are: {', '.join(known)})"
    return None


def name_colors(
    classifier: ColorClassifier,
    pictures: Sequence[NDArray[np.uint8]],
    wanted: Sequence[Requirements],
    found: Sequence[Sequence[Detection]],
) -> list[list[Detection]]:
    """The detections of N pictures with colours where a clause asks for them and the detector names none.

    Only the best ``count`` objects of the clause's class are looked at, as in the official evaluation.
    Raises ``RuntimeError`` if the classifier loses count.
    """
    asked = {
        (i, id(detection)): (picture, detection)
        for i, (picture, requirements, row) in enumerate(zip(pictures, wanted, found, strict=True))
        for detection in _uncolored(requirements, row)
    }
    if not asked:
        return [list(row) for row in found]
    names = classifier.classify([picture for picture, _ in asked.values()], [seen for _, seen in asked.values()])
    if len(names) != len(asked):
        raise RuntimeError(f"the colour classifier answered {len(names)} names for {len(asked)} objects")
    color_of = dict(zip(asked, names, strict=True))
    return [[replace(d, color=color_of.get((i, id(d)), d.color)) for d in row] for i, row in enumerate(found)]


def _uncolored(requirements: Requirements, detections: Sequence[Detection]) -> Iterator[Detection]:
    objects = accepted(detections, requirements.threshold)
    for clause in requirements.include:
        if clause.color is not None:
            yield from (d for d in objects.get(clause.label, ())[: clause.count] if d.color is None)


def pixel_box(detection: Detection, height: int, width: int) -> tuple[int, int, int, int]:
    """The detection's box on whole pixels inside the picture, at least one pixel large."""
    x0, y0, x1, y1 = (round(value) for value in detection.box)
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return x0, y0, min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)
