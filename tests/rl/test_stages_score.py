"""Several renders of one token sequence count as one sample."""

from __future__ import annotations

from rl.stages import mean_score
from rl.types import Score


def test_one_render_is_itself() -> None:
    score = Score(0.75, details={"read": "BOAR"}, passed=0.0)
    assert mean_score([score]) is score


def test_renders_are_averaged_and_so_are_their_passes() -> None:
    assert mean_score([Score(0.5, passed=0), Score(1.0, passed=1)]) == Score(0.75, passed=0.5)
    assert mean_score([Score(0.5), Score(1.0)]) == Score(0.75)
    assert mean_score([Score(None), Score(0.25, passed=1)]) == Score(0.25, passed=1.0)
    assert mean_score([Score(None), Score(None)]) == Score(None)


def test_a_failed_render_fails_the_sample() -> None:
    assert mean_score([Score(0.5), Score(None, failure="died")]).failure == "died"
