"""The ``geneval`` reward: a detector, a colour classifier and the official rules (arXiv 2310.11513).

Card. The metadata of a prompt says what it asks for; the rules are in ``rewards.library.geneval.rules``. Range [0, 1]:
``strict`` is the benchmark's 0 or 1, ``graded`` is 1 exactly if strict is. ``detector: mask2former`` with ``colors:
clip`` has the official rules, architecture and classifier; the official detector weights are mmdetection's, these are
others, so a picture near a threshold may be judged otherwise. Compare figures of one detector only. Blind to everything
but objects, counts, colours and positions: style, faces, text and beauty are free, and what fools the detector is
rewarded. Licences and how to get the weights: each detector's and classifier's own card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rewards.golden import Golden
from rewards.library.geneval.colors import load_colors, name_colors, unknown_color
from rewards.library.geneval.contract import Detection, OpenVocabularyDetector
from rewards.library.geneval.detectors.load import detect, load_detector, unknown_class
from rewards.library.geneval.rules import COUNTING_THRESHOLD, SCORE_THRESHOLD, Requirements, accepted, judge, parse
from rewards.library.golden_pictures import detected_cat
from rl.types import Prompt, Sample, Score, UserError

Grading = Literal["strict", "graded"]


class GenEval:
    """Scores pictures by GenEval's rules.

    Strict and graded are both in the details, with the reason, every check and the objects found. A prompt without
    ``include`` in its metadata is not applicable; one that asks for a class or a colour that can never be found fails.
    ``colors`` names the colours that the detector does not (``None``: it names and lists them all; ``auto``: ``clip``
    if it names none). ``threshold`` and ``counting_threshold``: the official .3 and .9, made for Mask2Former's scores.
    """

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    metadata = ("include",)
    parts = {"detector": "detectors", "colors": "color_classifiers"}  # noqa: RUF012
    metadata_problem = "rewards.library.geneval.rules:metadata_problem"

    def __init__(
        self,
        detector: str = "shapes",
        grading: Grading = "strict",
        detector_options: Mapping[str, object] | None = None,
        colors: str | None = None,
        colors_options: Mapping[str, object] | None = None,
        threshold: float = SCORE_THRESHOLD,
        counting_threshold: float = COUNTING_THRESHOLD,
    ) -> None:
        if grading not in ("strict", "graded"):
            raise UserError(f"geneval.options.grading is {grading!r}: it must be 'strict' or 'graded'")
        for name, options in (("detector_options", detector_options), ("colors_options", colors_options)):
            if not (options is None or isinstance(options, Mapping)):
                raise UserError(f"geneval.options.{name} is {options!r}: it must be a mapping of options")
        self.grading = grading
        self._threshold = _fraction("threshold", threshold)
        self._counting_threshold = _fraction("counting_threshold", counting_threshold)
        self.detector = load_detector(detector, detector_options)
        self.colors = load_colors(colors, colors_options, detector=self.detector)

    def golden(self) -> list[Golden]:
        """The detector's own reference pictures, or photographs if it knows cats; none for other detectors."""
        own = getattr(self.detector, "golden", None)
        if own is not None:
            return [_golden(number, *reference) for number, reference in enumerate(own())]
        open_vocabulary = isinstance(self.detector, OpenVocabularyDetector)
        return detected_cat() if open_vocabulary or "cat" in getattr(self.detector, "classes", ()) else []

    def trial_prompts(self) -> list[Prompt]:
        """Four prompts for trying the reward out, of classes that the detector knows."""
        known = sorted(getattr(self.detector, "classes", None) or ("cat", "stop sign", "bench", "person"))
        return [
            Prompt(
                f"trial-{i}", f"a photo of a {name}", {"tag": "single_object", "include": [{"class": name, "count": 1}]}
            )
            for i, name in enumerate(known[:4])
        ]

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores; a sample with malformed metadata fails, with the entry named."""
        parsed = [self._parse(sample) for sample in samples]
        wanted = {i: one for i, one in enumerate(parsed) if isinstance(one, Requirements)}
        found = self._find([samples[i] for i in wanted], list(wanted.values()))
        judged = {i: self._score(wanted[i], row) for i, row in zip(wanted, found, strict=True)}
        return [one if isinstance(one, Score) else judged[i] for i, one in enumerate(parsed)]

    def _parse(self, sample: Sample) -> Requirements | Score:
        try:
            wanted = parse(sample.prompt.metadata, self._threshold, self._counting_threshold)
        except ValueError as error:
            return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
        if wanted is None:
            return Score(None)
        problem = unknown_class(self.detector, wanted.labels) or unknown_color(self.detector, self.colors, wanted)
        return wanted if problem is None else Score(None, failure=f"prompt {sample.prompt.id!r}: {problem}")

    def _find(self, samples: Sequence[Sample], wanted: Sequence[Requirements]) -> list[list[Detection]]:
        pictures = [sample.picture for sample in samples]
        found = detect(self.detector, pictures, [one.labels for one in wanted])
        return found if self.colors is None else name_colors(self.colors, pictures, wanted, found)

    def _score(self, wanted: Requirements, found: Sequence[Detection]) -> Score:
        try:
            verdict = judge(wanted, found)
        except ValueError as error:
            return Score(None, failure=str(error))
        objects = accepted(found, wanted.threshold)
        return Score(
            float(verdict.strict) if self.grading == "strict" else verdict.graded,
            details={
                "strict": verdict.strict,
                "graded": verdict.graded,
                "reason": verdict.reason,
                "checks": [dict(vars(check)) for check in verdict.checks],
                "found": {label: [[*map(float, d.box), d.score] for d in row] for label, row in objects.items()},
            },
            passed=float(verdict.strict),
        )


def _golden(number: int, picture: NDArray[np.uint8], metadata: Mapping[str, object], passes: bool) -> Golden:
    sample = Sample(f"reference {number}", "golden", Prompt("golden", "", metadata), picture)
    return Golden(sample, at_least=1.0) if passes else Golden(sample, at_most=0.99)


def _fraction(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UserError(f"geneval.options.{name} is {value!r}: it must be a number from 0 to below 1")
    return float(value)
