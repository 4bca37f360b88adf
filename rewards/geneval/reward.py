"""The ``geneval`` reward: a detector and the official rules. The metadata of a prompt says what it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from rewards.geneval.detectors import detect, load_detector
from rewards.geneval.protocol import Requirements, judge, parse
from rl.types import Detection, Sample, Score, UserError

Grading = Literal["strict", "graded"]


class GenEval:
    """Scores pictures by GenEval's rules, see ``rewards.geneval.protocol``.

    ``strict`` is the benchmark's 0 or 1, ``graded`` a number in [0, 1] that is 1 exactly if strict is. Both are in
    the details, with the reason and every check. A prompt without ``include`` in its metadata is not applicable.
    """

    def __init__(
        self,
        detector: str = "shapes",
        grading: Grading = "strict",
        detector_options: Mapping[str, Any] | None = None,
    ) -> None:
        if grading not in ("strict", "graded"):
            raise UserError(f"geneval.options.grading is {grading!r}: it must be 'strict' or 'graded'")
        self.grading = grading
        self.detector = load_detector(detector, detector_options)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores; a sample with malformed metadata fails, with the entry named."""
        parsed = [_parse(sample) for sample in samples]
        asked = [i for i, wanted in enumerate(parsed) if isinstance(wanted, Requirements)]
        found = dict(zip(asked, detect(self.detector, [samples[i].picture for i in asked]), strict=True))
        return [
            self._score(wanted, found[i]) if isinstance(wanted, Requirements) else wanted
            for i, wanted in enumerate(parsed)
        ]

    def _score(self, wanted: Requirements, found: Sequence[Detection]) -> Score:
        try:
            verdict = judge(wanted, found)
        except ValueError as error:
            return Score(None, failure=str(error))
        return Score(
            float(verdict.strict) if self.grading == "strict" else verdict.graded,
            details={
                "strict": verdict.strict,
                "graded": verdict.graded,
                "reason": verdict.reason,
                "checks": [asdict(check) for check in verdict.checks],
            },
            passed=float(verdict.strict),
        )


def _parse(sample: Sample) -> Requirements | Score:
    try:
        return parse(sample.prompt.metadata) or Score(None)
    except ValueError as error:
        return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
