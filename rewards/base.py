"""The plug-in protocol: a reward answers B values for B samples; everything else it may do becomes a failure.

A reward is a function ``def bright(samples, *, target=0.5) -> list[float | None]`` or a class whose objects
are called with the samples. Per sample it answers a finite number, ``None`` (not applicable: the prompt does
not ask for what this reward measures) or a ``Score`` with details. A wrong answer is never turned into 0: it
is a failed ``Score`` that says why, is left out of its group's statistics and is counted. A number beyond ``LARGEST``
is a wrong answer too: the statistics of a group square it, in 32 bits.
"""

from __future__ import annotations

import math
import numbers
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rl.types import Sample, Score

LARGEST: Final = 1e12
"""The size of a reward, or of what several are combined to, beyond which it is refused."""


def failures(count: int, reason: str) -> list[Score]:
    """``count`` failed scores with the same reason."""
    return [Score(None, failure=reason)] * count


def describe_exception(error: BaseException) -> str:
    """One line: ``ValueError: no text (my_reward.py:12)``, the place being where it was raised."""
    found = _place(error)
    place = f" ({Path(found[0]).name}:{found[1]})" if found else ""
    message = " ".join((error.msg if isinstance(error, SyntaxError) and found else str(error)).split())
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def _place(error: BaseException) -> tuple[str, int | None] | None:
    """File and line: of the text that is no Python, else of the last frame that is no library's and no importing."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 1
    every = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen ")]
    frames = [frame for frame in every if "site-packages" not in frame.filename] or every
    return (frames[-1].filename, frames[-1].lineno) if frames else None


def normalise(raw: object, samples: Sequence[Sample]) -> list[Score]:
    """A plug-in's answer for ``samples`` as one ``Score`` each, in order; what is not a valid answer is a failure."""
    rows = _rows(raw)
    if rows is None:
        return failures(len(samples), f"returned {_a(raw)} instead of a list of {len(samples)} values")
    if len(rows) != len(samples):
        return failures(len(samples), f"returned {len(rows)} values for {len(samples)} samples")
    return [_one(value, sample) for value, sample in zip(rows, samples, strict=True)]


def _rows(raw: object) -> list[object] | None:
    if isinstance(raw, (str, bytes, Mapping)):
        return None
    if isinstance(raw, Sequence):
        return list(raw)
    tolist = getattr(raw, "tolist", None)  # numpy arrays and torch tensors, without importing either
    rows = tolist() if callable(tolist) else None
    return rows if isinstance(rows, list) else None


def _one(value: object, sample: Sample) -> Score:
    if value is None:
        return Score(None)
    if isinstance(value, Score):
        return _checked(value, sample)
    number = _number(value)
    if number is None:
        return Score(None, failure=f"returned {_a(value)} where a number or None was expected")
    return _within(number, sample, {})


def _checked(score: Score, sample: Sample) -> Score:
    details = {str(key): _plain(value) for key, value in score.details.items()}
    if score.failure is not None:
        return Score(None, failure=str(score.failure), details=details)
    if score.value is None:
        return Score(None, details=details)
    number, passed = _number(score.value), _number(score.passed)
    if number is None:
        return Score(None, failure=f"returned a Score whose value is {_a(score.value)}", details=details)
    if score.passed is not None and not (passed is not None and 0 <= passed <= 1):
        wrong = f"returned a Score whose `passed` is {_a(score.passed)}; it must be True, False or in [0, 1]"
        return Score(None, failure=wrong, details=details)
    return _within(number, sample, details, passed)


def _within(number: float, sample: Sample, details: Mapping[str, object], passed: float | None = None) -> Score:
    if abs(number) <= LARGEST:
        return Score(number, details=details, passed=passed)
    limit = f"; a reward must lie within {LARGEST:g}, so divide it" if math.isfinite(number) else ""
    return Score(None, failure=f"returned {number:g} for the prompt {sample.prompt.id!r}{limit}", details=details)


def _plain(value: object) -> object:
    """Plain data only, so that reading a score never imports the plug-in's libraries into the trainer."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or type(value) in (str, bool, int, float):
        return value
    tolist = getattr(value, "tolist", None)  # arrays and their numbers; of objects, dates and complex ones the text
    plain = tolist() if callable(tolist) else None
    return _plain(plain) if isinstance(plain, (list, str, bool, int, float)) else str(value)


def _number(value: object) -> float | None:
    """``value`` as a float if it is one number: Python's, numpy's, or a tensor that holds exactly one."""
    if not isinstance(value, numbers.Real) and getattr(value, "ndim", None) == 0:
        value = value.item()  # type: ignore[attr-defined]
    if not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:  # whole numbers have no end
        return math.inf if abs(value) == value else -math.inf


def _a(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} ({_short(value)})"


def _short(value: object, limit: int = 40) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
