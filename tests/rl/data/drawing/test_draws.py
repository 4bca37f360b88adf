"""Which tasks and prompts are drawn, by what their groups came to."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Sequence

import pytest

from rl.data.drawing.curricula import failure, learnability, signal
from rl.data.drawing.draws import PromptDraws, shared_out
from rl.data.drawing.tasks import DECAY, GroupOutcome, TaskRecord, record, taken_in
from rl.types import Prompt, UserError


def some_prompts(easy: int = 6, hard: int = 6) -> list[Prompt]:
    counts = {"easy": easy, "hard": hard}
    return [Prompt(f"{tag}{i}", "x", {"tag": tag}) for tag, count in counts.items() for i in range(count)]


def ids(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.id for prompt in prompts]


def tried(task: str, success: float, signal: bool = True) -> GroupOutcome:
    return GroupOutcome(Prompt("p", "x", {"tag": task}), success, signal)


RECORDS = [
    TaskRecord("easy", 6, success=0.9, signal=0.3, seen=10),
    TaskRecord("hard", 6, success=0.2, signal=0.8, seen=10),
    TaskRecord("new", 6),
]


def test_rules_weigh_tasks_by_their_success() -> None:
    assert learnability(RECORDS) == pytest.approx([0.09 + 0.05, 0.16 + 0.05, 0.25 + 0.05])
    assert failure(RECORDS, floor=0.1) == pytest.approx([0.1 + 0.1, 0.8 + 0.1, 0.5 + 0.1])
    assert signal(RECORDS, floor=0.0) == pytest.approx([0.3, 0.8, 1.0])


def test_a_record_forgets_a_tenth_with_each_step_that_sees_its_task() -> None:
    sums = taken_in({}, [tried("a", 1.0), tried("a", 0.5, signal=False), tried("b", 0.25)])
    assert record("a", 3, sums["a"]) == TaskRecord("a", 3, success=0.75, signal=0.5, seen=2)
    later = taken_in(sums, [tried("a", 0.0)])
    assert DECAY == 0.9
    assert record("a", 3, later["a"]).success == pytest.approx(1.5 * 0.9 / (2 * 0.9 + 1))
    assert later["b"] == sums["b"]  # nothing was seen of it
    assert sums["a"]["seen"] == 2  # and the first sums are as they were
    assert record("c", 3, None) == TaskRecord("c", 3)


@pytest.mark.parametrize(
    ("left", "count", "chance", "given"),
    [
        ({"a": 9, "b": 9}, 8, 0.5, {"a": 6, "b": 2}),
        ({"a": 9, "b": 9}, 2, 0.4, {"a": 2}),  # marks at .2 and .7
        ({"a": 9, "b": 9}, 2, 0.6, {"a": 1, "b": 1}),  # at .3 and .8
        ({"a": 4, "b": 9}, 8, 0.5, {"a": 4, "b": 4}),  # what one task has no more of, the other gives
        ({"a": 1, "b": 1}, 8, 0.5, {"a": 1, "b": 1}),
    ],
)
def test_draws_are_shared_out_systematically(
    left: dict[str, int], count: int, chance: float, given: dict[str, int]
) -> None:
    assert shared_out({"a": 0.75, "b": 0.25}, left, count, chance) == given


def test_tasks_without_weight_are_drawn_when_nothing_else_is_left() -> None:
    assert shared_out({"a": 1.0, "b": 0.0}, {"a": 2, "b": 5}, 4, 0.5) == {"a": 2, "b": 2}


def test_shares_are_right_on_average() -> None:
    drawn = Counter[str]()
    for chance in range(100):
        drawn.update(shared_out({"a": 0.3, "b": 0.7}, {"a": 99, "b": 99}, 5, chance / 100))
    assert drawn["a"] == pytest.approx(0.3 * 500, abs=5)


def test_without_a_curriculum_every_prompt_comes_once_an_epoch() -> None:
    draws, seen = PromptDraws(some_prompts(), seed=3), Counter[str]()
    for step in range(6):
        draws.begin(step)
        first, more = draws.more(2), draws.more(2)
        assert len({*ids(first), *ids(more)}) == 4
        seen.update(ids([*first, *more]))
        draws.end([])
        if step == 2:
            assert set(seen.values()) == {1} and len(seen) == 12
    assert draws.state["places"] == {"": 24}
    assert set(seen.values()) == {2}


def test_a_step_holds_no_prompt_twice_and_ends_where_there_are_no_more() -> None:
    draws = PromptDraws(some_prompts(2, 1), seed=0, curriculum=learnability)
    draws.begin(0)
    drawn = [*draws.more(2), *draws.more(2)]
    assert sorted(ids(drawn)) == ["easy0", "easy1", "hard0"]
    assert draws.more(2) == []


def test_a_task_that_fails_is_drawn_more_often_than_one_that_is_solved() -> None:
    draws, drawn = PromptDraws(some_prompts(40, 40), seed=0, curriculum=failure), Counter[object]()
    for step in range(12):
        draws.begin(step)
        found = draws.more(10)
        drawn.update(prompt.metadata["tag"] for prompt in found[:10] if step >= 2)
        draws.end([GroupOutcome(one, float(one.metadata["tag"] == "easy"), signal=True) for one in found])
    # weights .05 and 1.05
    assert draws.shares() == pytest.approx({"easy": 0.05 / 1.1, "hard": 1.05 / 1.1})
    assert drawn["hard"] >= 90 and drawn["easy"] >= 1


def test_a_resumed_run_draws_what_an_uninterrupted_one_draws() -> None:
    def steps(draws: PromptDraws, first: int, last: int) -> list[list[str]]:
        found = []
        for step in range(first, last):
            draws.begin(step)
            drawn = [*draws.more(3), *draws.more(1 + step % 2)]
            draws.end([GroupOutcome(one, (len(one.id) + step) % 3 / 2, signal=step % 2 == 0) for one in drawn])
            found.append(ids(drawn))
        return found

    whole, first = (PromptDraws(some_prompts(), seed=5, curriculum=learnability) for _ in range(2))
    expected = steps(whole, 0, 8)
    assert steps(first, 0, 3) == expected[:3]
    resumed = PromptDraws(some_prompts(), seed=5, curriculum=learnability)
    resumed.state = json.loads(json.dumps(first.state))
    assert steps(resumed, 3, 8) == expected[3:]
    assert resumed.state == whole.state


def test_a_step_that_did_not_end_has_used_nothing_up() -> None:
    draws = PromptDraws(some_prompts(), seed=5, curriculum=learnability)
    before = copy.deepcopy(draws.state)
    draws.begin(0)
    lost = ids(draws.more(4))
    assert draws.state == before
    draws.begin(0)
    assert ids(draws.more(4)) == lost


def test_a_curriculum_needs_tasks_and_answers_weights() -> None:
    alike = [Prompt(f"p{i}", "x", {"tag": "counting"}) for i in range(3)]
    with pytest.raises(UserError, match="all 3 training prompts have the tag 'counting', so there are no tasks"):
        PromptDraws(alike, 0, learnability)
    with pytest.raises(UserError, match="all 2 training prompts have no tag, so there are no tasks to choose among"):
        PromptDraws([Prompt("a", "x"), Prompt("b", "x")], 0, learnability)
    for answer in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], 1.0):
        draws = PromptDraws(some_prompts(), 0, lambda tasks, answer=answer: answer)  # type: ignore[misc]
        with pytest.raises(UserError, match=r"data.curriculum answered .* for the tasks 'easy', 'hard'; it must"):
            draws.shares()
