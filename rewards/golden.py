"""The golden probe: a reward scores its own reference pictures before it is trusted with a run.

A detector with the wrong weights, or a recogniser of the wrong version, answers 0 to everything and looks like a hard
task. A reward may therefore have a method ``golden()`` (a function: an attribute) that gives reference pictures and
what a working reward says of them; it runs in the worker, right after loading, so a dead reward stops the run before
the first picture is painted, and a worker that comes back broken is not used. A reward without any is judged by its
first scores of real pictures (``check_varied``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rewards.base import describe_exception, normalise
from rl.types import Sample, Score, UserError

_MANY = 32  # by then a reward met by one picture in ten has differed 97 times in 100


@dataclass(frozen=True)
class Golden:
    """A reference picture and what a working reward says of it. ``Golden(sample, at_least=0.9)``.

    ``above_previous``: it must score above the one before it. Of several, not all may have the same score, so two
    pictures without bounds prove that a reward is not constant.
    """

    sample: Sample
    at_least: float = -math.inf
    at_most: float = math.inf
    above_previous: bool = False


def prove(reward: Callable[[Sequence[Sample]], object]) -> bool:
    """Probe it with its own reference pictures; whether it has any. Raises ``UserError`` if it is dead."""
    golden = reference_pictures(reward)
    if golden:
        probe(reward, golden)
    return bool(golden)


def reference_pictures(reward: object) -> list[Golden]:
    """What the reward's ``golden()`` gives; none if it has no such method. Raises ``UserError`` if that raises."""
    golden = getattr(reward, "golden", None)
    if golden is None:
        return []
    try:
        given = list(golden())
    except UserError:
        raise
    except Exception as error:  # a plug-in may raise anything
        raise UserError(
            f"its golden() raised {describe_exception(error)}; repair it, or set `probe: false` on it"
        ) from error
    for one in given:
        if not isinstance(one, Golden):
            raise UserError(
                f"its golden() gives a {type(one).__name__}; it must give a list of rewards.golden.Golden(sample)"
            )
    return given


def probe(reward: Callable[[Sequence[Sample]], object], golden: Sequence[Golden]) -> None:
    """Raises ``UserError`` with the first reason why ``reward`` is dead; nothing if it is alive."""
    samples = [one.sample for one in golden]
    try:
        scores = normalise(reward(samples), samples)
    except Exception as error:  # a plug-in may raise anything
        raise _dead(f"it raised {describe_exception(error)}") from error
    for one, score in zip(golden, scores, strict=True):
        _check(one, score)
    values = {score.value for score in scores}
    if len(scores) > 1 and len(values) == 1:
        raise _dead(f"it gives {scores[0].value:g} to all {len(scores)} of its reference pictures")
    for worse, one, low, high in zip(golden, golden[1:], scores, scores[1:], strict=False):
        if one.above_previous and not _value(high) > _value(low):
            raise _dead(
                f"it prefers its reference picture {worse.sample.id!r} ({low.value:g}) to {one.sample.id!r} "
                f"({high.value:g})"
            )


def check_varied(name: str, scores: Sequence[Score]) -> bool:
    """Whether two of the scores differ, which shows ``rewards.<name>`` alive.

    Raises ``UserError`` if it says the same of all of many pictures (32 or more) it applies to.
    """
    values = [score.value for score in scores if score.value is not None]
    if len(set(values)) > 1:
        return True
    if len(values) >= _MANY:
        raise UserError(
            f"rewards.{name} gives {values[0]:g} to all of the first {len(values)} pictures: it is dead or constant, "
            f"and nothing can be learned from it; repair it, give it a `golden()` that shows it alive, or set "
            f"rewards.{name}.probe=false"
        )
    return False


def _check(one: Golden, score: Score) -> None:
    picture = f"on its reference picture {one.sample.id!r} it "
    if score.failure is not None:
        raise _dead(picture + f"fails: {score.failure}")
    if score.value is None:
        raise _dead(picture + "answers 'not applicable'")
    if not one.at_least <= score.value <= one.at_most:
        bound = f"at least {one.at_least:g}" if score.value < one.at_least else f"at most {one.at_most:g}"
        raise _dead(picture + f"scores {score.value:g}, a working one {bound}")


def _value(score: Score) -> float:
    assert score.value is not None  # checked before
    return score.value


def _dead(what: str) -> UserError:
    return UserError(
        f"the golden probe found it dead or wrong: {what}; check its weights and versions, or set `probe: false` on it"
    )
