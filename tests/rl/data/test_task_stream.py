"""Steps that share themselves out among drawing, editing and answering, and lists of several sources."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rl.config.section import Component
from rl.config.sections.data import TaskShares
from rl.data.pictures import Picture
from rl.data.prompts import load_prompts
from rl.data.task_stream import TaskStream
from rl.data.tasks import task_of
from rl.types import Prompt, UserError

BLANK = (Picture(np.zeros((4, 4, 3), np.uint8)),)


def prompts(draw: int = 7, edit: int = 5, answer: int = 4) -> list[Prompt]:
    found = [Prompt(f"d{i}", "x") for i in range(draw)]
    found += [Prompt(f"e{i}", "x", pictures=BLANK) for i in range(edit)]
    return found + [Prompt(f"a{i}", "x", {"task": "answer"}, BLANK) for i in range(answer)]


@pytest.mark.parametrize(
    ("shares", "per_step", "numbers"),
    [
        (TaskShares(draw=2, edit=1, answer=1), 32, {"draw": 16, "edit": 8, "answer": 8}),
        (TaskShares(draw=1, answer=1), 5, {"draw": 3, "answer": 2}),
        (TaskShares(draw=1, edit=1, answer=1), 32, {"draw": 11, "edit": 11, "answer": 10}),
        (TaskShares(draw=100, answer=0.01), 8, {"draw": 7, "answer": 1}),
        (TaskShares(draw=100, edit=0.01, answer=0.01), 3, {"draw": 1, "edit": 1, "answer": 1}),
    ],
)
def test_a_step_holds_whole_numbers_of_each_task(shares: TaskShares, per_step: int, numbers: dict[str, int]) -> None:
    assert shares.numbers(per_step) == numbers


def test_every_step_holds_as_many_of_each_and_every_prompt_comes_as_often() -> None:
    stream = TaskStream(prompts(), {"draw": 3, "edit": 2, "answer": 1}, seed=3)
    steps = [stream.at(step) for step in range(140)]
    assert all([task_of(one) for one in step] == ["draw"] * 3 + ["edit"] * 2 + ["answer"] for step in steps)
    assert all(len({one.id for one in step}) == 6 for step in steps)
    counts = Counter(one.id for step in steps for one in step)
    assert {counts[f"d{i}"] for i in range(7)} == {60}
    assert {counts[f"e{i}"] for i in range(5)} == {56} and {counts[f"a{i}"] for i in range(4)} == {35}
    again = TaskStream(prompts(), {"draw": 3, "edit": 2, "answer": 1}, seed=3)
    assert [one.id for one in again.at(139)] == [one.id for one in steps[139]]  # of the step alone


def test_shares_and_prompts_that_do_not_fit_are_told() -> None:
    def refused(numbers: dict[str, int], **counts: int) -> str:
        with pytest.raises(UserError) as caught:
            TaskStream(prompts(**counts), numbers, seed=0)
        return str(caught.value)

    assert refused({"draw": 2, "answer": 1}) == (
        "data.shares has no edit, and data.train has 5 prompts of that task, prompt 'e0' ('x') first; give edit a "
        "share, or take them out of data.train"
    )
    assert refused({"draw": 2, "edit": 1, "answer": 1}, edit=0) == (
        "data.shares.edit: data.train has no prompt of that task; add some, or leave the share out"
    )
    assert refused({"draw": 2, "edit": 1, "answer": 6}) == (
        "data.shares gives answer 6 prompts of a step, but data.train has only 4 different ones; lower "
        "data.prompts_per_step or the share, or add prompts"
    )


def _mixed(*sources: object) -> list[Prompt]:
    return load_prompts(Component(use="mixture", options={"sources": list(sources)}), "data.train")


def test_a_mixture_is_all_of_its_sources(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a red circle\na blue star\na red circle\n")
    questions = {"use": "shapes", "options": {"split": "rl", "per_task": 2, "tags": ["ask_color", "edit_add"]}}
    found = _mixed(questions, {"use": "text", "options": {"path": str(tmp_path / "p.txt")}})
    assert [task_of(one) for one in found] == ["answer", "answer", "edit", "edit", "draw", "draw"]
    assert "1 of 3 prompts repeat" in found.notes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sources", "wrong"),
    [
        ([], "data.train: options.sources is empty; name at least one"),
        (["shaps"], r"data.train: options.sources\[0\]: .*did you mean 'shapes'"),
        ([{"use": "shapes", "options": {"splt": "rl"}}], r"options.sources\[0\].options.splt: .*did you mean 'split'"),
        ([{"options": {}}], r"options.sources\[0\].use: Field required; a source is \{use: NAME"),
        ([{"use": "text", "options": {"path": "gone.txt"}}], r"options.sources\[0\]: .*gone.txt"),
    ],
)
def test_a_wrong_source_has_its_number(sources: list[object], wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        _mixed(*sources)
