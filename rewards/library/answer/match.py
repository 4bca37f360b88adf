"""When an answer in words is the right one. Whole answers are compared, never parts of them.

An answer that merely holds the right one ("red or blue or green") would be learnt at once, and an empty one is held by
every text; both are wrong here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

from rl.types import WrittenAnswer

Right = str | float
"""A text, or a number."""

_NUMBER = re.compile(r"[-+]?(\d+(,\d{3})*|\d*)(\.\d+)?")
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()


def right_answers(metadata: Mapping[str, object]) -> tuple[Right, ...] | None:
    """What ``metadata["answer"]`` names: one right answer, or a list of several; ``None`` if it names none.

    Raises: ValueError saying what is wrong with it.
    """
    given = metadata.get("answer")
    if given is None:
        return None
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    right = [one for one in map(_right, several) if one is not None]
    if not several or len(right) < len(several):
        raise ValueError(
            f"answer is {given!r}: it must be a text that is not blank, a number, or a list of these of which each is "
            f"right"
        )
    return tuple(right)


def metadata_problem(metadata: Mapping[str, object]) -> str | None:
    """Why ``answer`` can't be judged; ``None`` if it can, or if there is none."""
    try:
        right_answers(metadata)
    except ValueError as error:
        return str(error)
    return None


def why_wrong(answer: WrittenAnswer, right: Sequence[Right], tolerance: float) -> str | None:
    """``None``: it is one of the right ones."""
    if not answer.complete:
        return "no end: it was cut off before it said that it had ended"
    said = normalised(answer.text)
    if not said:
        return "empty"
    if any(_same(said, one, tolerance) for one in right):
        return None
    if any(isinstance(one, str) and _holds(said, normalised(one)) for one in right):
        return "says more than the right answer"
    if all(isinstance(one, float) for one in right) and as_number(said) is None:
        return "is no number"
    return "another answer"


def normalised(text: str) -> str:
    """NFKC, without case, one space between words, no full stop at the end; letters that stand alone are one word:
    ``C A T`` is ``cat``."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).removesuffix(".").rstrip()
    words = plain.split(" ")
    return "".join(words) if len(words) > 1 and all(len(one) == 1 for one in words) else plain


def as_number(text: str) -> float | None:
    """Of a normalised answer that is a number and nothing else, in figures or (up to twenty) in words."""
    if text in _WORDS:
        return float(_WORDS.index(text))
    if not any(one.isdecimal() for one in text) or not text.isascii() or _NUMBER.fullmatch(text) is None:
        return None
    return float(text.replace(",", ""))


def _same(said: str, right: Right, tolerance: float) -> bool:
    if isinstance(right, str):
        return said == normalised(right)
    number = as_number(said)
    return number is not None and math.isclose(number, right, rel_tol=tolerance, abs_tol=1e-9)


def _holds(said: str, right: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(right)}(?!\w)", said) is not None


def _right(one: object) -> Right | None:
    """``None`` if it is neither a text nor a number."""
    if isinstance(one, str):
        return one if normalised(one) else None
    if isinstance(one, bool) or not isinstance(one, (int, float)) or not math.isfinite(one):
        return None
    return float(one)
