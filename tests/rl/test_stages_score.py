"""Several renders of one token sequence count as one sample."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rl.collect import mean_score, vet
from rl.types import Score, UserError


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


def test_a_reward_that_varied_in_the_base_evaluation_may_be_constant_in_the_first_step() -> None:
    rewards = {"easy": SimpleNamespace(role="train"), "dull": SimpleNamespace(role="train")}
    config = SimpleNamespace(reward_pool=SimpleNamespace(max_failed_fraction=0.05), rewards=rewards)
    run: Any = SimpleNamespace(config=config, unproven={"easy", "dull"})
    half = [Score(0.5)] * 40
    vet(run, {"easy": [*half, Score(1.0)], "dull": half[:20]}, first=True)
    assert run.unproven == {"dull"}
    vet(run, {"easy": half, "dull": half[:20]}, first=True)
    vet(run, {"easy": half, "dull": half}, first=False)
    with pytest.raises(UserError, match=r"rewards\.dull gives 0\.5 to all of the first 40 pictures"):
        vet(run, {"easy": half, "dull": half}, first=True)
