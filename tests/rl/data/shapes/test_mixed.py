"""Rows that draw, edit and answer: in their shares, each by its number; what can't be mixed is told."""

from __future__ import annotations

import numpy as np
import pytest

from rl.config.section import Component
from rl.data.examples.load import example_stream, load_examples
from rl.data.shapes.edits.contents import EDIT_TAGS
from rl.data.shapes.mixed import mixed
from rl.data.shapes.questions.contents import COARSE_TAGS
from rl.data.shapes.questions.rows import QuestionRows
from rl.data.tasks import task_of
from rl.types import UserError

SHARES = {"draw": 2, "edit": 1, "answer": 1}


def test_kinds_come_in_their_shares_and_each_row_by_its_number() -> None:
    rows, same = mixed(shares=SHARES, seed=2), mixed(shares=SHARES, seed=2)
    kinds = [task_of(rows[number].prompt) for number in range(300)]
    assert 120 <= kinds.count("draw") <= 180 and 50 <= kinds.count("edit") <= 100
    for number in (kinds.index("draw"), kinds.index("edit"), kinds.index("answer")):
        one, again = rows[number], same[number]
        assert (one.prompt, one.answer) == (again.prompt, again.answer)
        assert (one.picture.pixels == again.picture.pixels).all()
    of_another = example_stream(rows, 4, seed=1).at(0)
    assert [one.prompt.text for one in of_another] != [rows[number].prompt.text for number in range(4)]
    assert rows.digest() == same.digest() != rows.of_run(1).digest()


def test_an_edit_asks_for_no_details_and_an_answer_is_about_the_picture_of_its_question() -> None:
    edit = mixed(shares={"edit": 1})[0]
    assert edit.answer is None and edit.prompt.metadata["tag"] in (*EDIT_TAGS, "edit_keep")
    assert edit.labels["ground"].tolist() == [0] * 16 and edit.weights == {"text": 0.0}
    fine = {name: mixed(shares={"edit": 1}, edit={"shares": {name: 1.0}})[3] for name in ("fine_shade", "fine_ground")}
    shade, ground = (one.labels for one in fine.values())
    assert (shade["ground"] == -100).all() and (shade["figure"] >= 0).sum() == 1
    assert (ground["figure"] == -100).all() and len(set(ground["ground"].tolist())) == 1 and ground["ground"][0] >= 0
    question = mixed(shares={"answer": 1.0}, answer={"shares": {"ask_size": 1.0}})[0]
    assert question.picture is question.prompt.pictures[0]
    assert question.answer == question.prompt.metadata["answer"] and not question.labels
    assert not question.weights and mixed(shares={"draw": 1})[0].weights["text"] == 0.0


def test_questions_to_learn_from_are_a_function_of_their_number_and_end_wrong_now_and_then() -> None:
    clean, bad = QuestionRows(), QuestionRows(mislabelled=1.0, bad_from=40)
    for number in (3, 50):
        (prompt, answer), (again, same) = bad[number], bad[number]
        assert (prompt.text, prompt.pictures, answer) == (again.text, again.pictures, same)
        assert (prompt.pictures[0].pixels == bad.question(number).picture).all()
    wrong = [clean[number][1] != bad[number][1] for number in range(80)]
    assert not any(wrong[:40]) and sum(wrong[40:]) > 15
    assert {clean.question(number).tag for number in range(200)} == set(COARSE_TAGS)
    assert all(bad[number][0].text == clean[number][0].text for number in range(40, 80))


def test_each_kind_has_options_of_its_own() -> None:
    found = mixed(
        shares={"edit": 1, "answer": 1},
        edit={"shares": {"edit_swap": 1.0}, "mislabelled": 0.5, "bad_from": 7},
        bad_from=9,
        answer={"shares": {"ask_ground": 2.0}, "split": "rl"},
        seed=3,
    )
    tags = {found[number].prompt.metadata["tag"] for number in range(30)}
    assert tags == {"edit_swap", "ask_ground"}
    assert (found.edits.bad_from, found.edits.seed) == (7, 3)
    assert (found.questions.bad_from, found.questions.split, found.drawings.bad_from) == (9, "rl", 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": {"paint": 1}}, "shapes_mixed: shares: there is no kind 'paint'; choose among draw, edit, answer"),
        ({"shares": {"draw": -1}}, "shapes_mixed: shares.draw is -1; it must be a number from 0"),
        ({"shares": {"draw": 0}}, "shapes_mixed: shares: all are 0; give one kind a share"),
        ({"shares": {"edit": 1}, "edit": {"shares": {"edit_sing": 1.0}}}, "shapes world: unknown edit 'edit_sing'"),
        ({"shares": {"edit": 1}, "edit": {"bad_from": "soon"}}, "shapes_mixed: edit: options.bad_from is 'soon'"),
        ({"shares": {"answer": 1}, "answer": {"split": "test"}}, "unknown split 'test'"),
        ({"shares": {"draw": 1}, "draw": {"tags": ["sing"]}}, "shapes: unknown task 'sing'"),
    ],
)
def test_what_can_not_be_mixed_is_told(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_examples(Component(use="shapes_mixed", options=options))
    assert said in str(caught.value)


def test_all_shares_are_numbers_of_any_sum() -> None:
    kinds = [task_of(mixed(shares={"draw": 3, "answer": 0.0})[number].prompt) for number in range(20)]
    assert np.unique(kinds).tolist() == ["draw"]
