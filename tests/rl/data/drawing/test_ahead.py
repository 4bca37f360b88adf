"""Steps that are drawn before those ahead of them are scored: the same draws, whoever is how fast."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from rl.data.drawing.ahead import DrawnAhead
from rl.data.drawing.curricula import failure
from rl.data.drawing.draws import DrawState, PromptDraws
from rl.data.drawing.group_sizes import SharedOut, knapsack
from rl.data.drawing.tasks import GroupOutcome
from rl.types import Prompt
from tests.rl.data.drawing.test_draws import ids, some_prompts

STEPS, EACH = 9, 4


def fresh(state: DrawState | None = None) -> PromptDraws:
    draws = PromptDraws(some_prompts(), seed=5, curriculum=failure)
    draws.state = draws.state if state is None else json.loads(json.dumps(state))
    return draws


def outcomes(step: int, prompts: Sequence[Prompt]) -> list[GroupOutcome]:
    """One task is solved in the first steps, the other in those that follow."""
    return [GroupOutcome(one, float((one.metadata["tag"] == "easy") == (step < 4)), signal=True) for one in prompts]


def drawn(
    staleness: int, *, early: int, first: int = 0, state: DrawState | None = None
) -> tuple[list[list[str]], list]:
    """Ids of every step from ``first`` on, each drawn ``early`` steps before it is scored; the states after them."""
    draws = fresh(state)
    ahead, found, states = DrawnAhead(draws, EACH, staleness), [], []
    ahead.begin(first)
    for step in range(first, STEPS):
        ahead.at(min(step + early, STEPS - 1))
        prompts = ahead.at(step)
        found.append(ids(prompts))
        ahead.end(step, outcomes(step, prompts))
        states.append(draws.state)
    return found, states


def test_in_turn_they_are_the_serial_draws() -> None:
    draws, expected = fresh(), []
    for step in range(STEPS):
        draws.begin(step)
        prompts = draws.more(EACH)
        draws.end(outcomes(step, prompts))
        expected.append(ids(prompts))
    found, states = drawn(0, early=0)
    assert found == expected
    assert {name: states[-1][name] for name in ("places", "tasks")} == draws.state


def test_it_does_not_matter_when_a_step_is_drawn() -> None:
    found, states = drawn(2, early=0)
    assert drawn(2, early=1) == drawn(2, early=2) == (found, states)
    assert found[:3] == drawn(3, early=0)[0][:3]  # by nothing
    assert found != drawn(0, early=0)[0]
    with pytest.raises(AssertionError, match="drawn by 1 steps, of which 0 have ended"):
        drawn(2, early=3)


@pytest.mark.parametrize("done", range(1, STEPS))
def test_a_resumed_run_draws_what_an_uninterrupted_one_draws(done: int) -> None:
    found, states = drawn(2, early=2)
    assert drawn(2, early=2, first=done, state=states[done - 1]) == (found[done:], states[done:])


def test_a_task_that_fails_gets_its_share_as_late_as_its_weights() -> None:
    draws = PromptDraws(some_prompts(40, 40), seed=0, curriculum=failure)
    ahead, shares = DrawnAhead(draws, 10, 1), []
    for step in range(4):
        prompts = ahead.at(step)
        told = [GroupOutcome(one, float(one.metadata["tag"] == "easy"), signal=True) for one in prompts]
        shares.append(ahead.end(step, told)["hard"])
    assert shares == pytest.approx([0.5, 0.5, 1.05 / 1.1, 1.05 / 1.1])


def sizes_drawn(staleness: int, *, early: int) -> list[list[str]]:
    """Ids of every step, a prompt as often as it has units."""
    draws, found = PromptDraws(some_prompts(), seed=5), []
    ahead = DrawnAhead(draws, EACH, staleness, SharedOut(knapsack, 2, 6))
    for step in range(STEPS):
        ahead.at(min(step + early, STEPS - 1))
        prompts = ahead.at(step)
        found.append(ids(prompts))
        ahead.end(step, outcomes(step, list({one.id: one for one in prompts}.values())))
    return found


def test_group_sizes_are_by_what_is_known_then() -> None:
    """Of 4 prompts with 6 samples each there are 12 units of 2."""
    draws, shared, expected = PromptDraws(some_prompts(), seed=5), SharedOut(knapsack, 2, 6), []
    for step in range(STEPS):
        draws.begin(step)
        prompts = draws.more(EACH)
        expected.append(ids(shared.repeated(prompts, draws.success)))
        draws.end(outcomes(step, prompts))
    assert sizes_drawn(0, early=0) == expected
    found = sizes_drawn(2, early=2)
    assert found == sizes_drawn(2, early=0) != expected
    assert all(len(one) == 12 for one in found)
    assert all(one.count(name) == 3 for one in found[:3] for name in one)  # nothing is known: all alike
    assert any(len({one.count(name) for name in one}) > 1 for one in found[3:])
