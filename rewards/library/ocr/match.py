"""How well a read text matches a target text. Numbers only, no pictures; formulas: ``rewards.library.ocr.reward``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from scipy.optimize import linear_sum_assignment

from rewards.library.ocr.signs import Case, normalise

Order = Literal["lines", "free"]


@dataclass(frozen=True)
class Match:
    """How well ``found`` matches ``target`` (both normalised): everything from ``strict`` on lies in [0, 1].

    ``words`` is the F1 of ``precision`` (the share of the read words that were asked for) and ``recall`` (the share of
    the target's words that were read), over multisets of words.
    """

    found: str
    target: str
    strict: float
    lenient: float
    exact: float
    words: float
    precision: float
    recall: float


def compare(found: str, target: str, case: Case = "ignore", order: Order = "lines") -> Match:
    """All gradings of ``found`` against ``target``. Raises ``ValueError`` if nothing of the target can be painted."""
    found_words, target_words = words_of(found, case), words_of(target, case)
    if not target_words:
        raise ValueError(f"the target {target!r} is blank")
    rec, t = "".join(found_words), "".join(target_words)
    common = (Counter(found_words) & Counter(target_words)).total()
    if order == "free":
        distance = matching_distance(found_words, target_words)
        inside, exact = common == len(target_words), Counter(found_words) == Counter(target_words)
    else:
        distance = Levenshtein.distance(rec, t)
        inside, exact = t in rec, rec == t
    longest = max(len(rec), len(t))
    return Match(
        found=rec,
        target=t,
        strict=1 - min(distance, longest) / longest,
        lenient=1.0 if inside else 1 - min(distance, len(t)) / len(t),
        exact=float(exact),
        words=2 * common / (len(found_words) + len(target_words)),
        precision=common / len(found_words) if found_words else 0.0,
        recall=common / len(target_words),
    )


def words_of(text: str, case: Case) -> list[str]:
    """The words between white space, of what people see of the text (``rewards.library.ocr.signs``)."""
    return normalise(text, case).split()


def matching_distance(found: Sequence[str], target: Sequence[str]) -> int:
    """Least total edit distance over all one-to-one matchings of words; a word left over costs its length.

    Solved exactly (Hungarian method). With L the lengths of the words on the longer side, of which some are left over,
    the total is ``sum(L) + sum over matched pairs of (Lev - L)``, so the assignment minimises the second sum.
    """
    fewer, more = sorted((found, target), key=len)
    total = sum(map(len, more))
    if not fewer:
        return total
    gain = cdist(fewer, more, scorer=Levenshtein.distance).astype(int) - [len(word) for word in more]
    rows, columns = linear_sum_assignment(gain)
    return total + int(gain[rows, columns].sum())
