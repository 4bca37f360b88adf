"""Questions about pictures of the shapes world: their answers are what the picture shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rl.data.shapes import world
from rl.data.shapes.edits.things import Thing, things_in
from rl.data.shapes.looks import LOOKS
from rl.data.shapes.prompts import prompts
from rl.data.shapes.questions.contents import COARSE_TAGS, DESCRIBE, FINE_TAGS, QUESTION_TAGS, question_contents
from rl.data.shapes.questions.make import ShapesQuestion
from rl.data.shapes.questions.prompts import chance_levels, questions
from rl.data.shapes.questions.rows import QuestionRows
from rl.data.shapes.sprites import CLASSES, COLORS, GRID
from rl.types import UserError


def seen(question: ShapesQuestion) -> str:
    """The answer, found in the scene by the words of the question."""
    things = things_in(question.scene)
    words = question.text.rstrip("?").replace(",", "").split()
    names = [name for word in words for name in CLASSES if word in (name, world.plural(name))]
    colors = [word for word in words if word in COLORS]

    def the(name: str) -> tuple[int, Thing]:
        ((place, thing),) = [(p, t) for p, t in things.items() if t.name == name]
        return place, thing

    match question.tag:
        case "ask_color":
            return the(names[0])[1].color
        case "ask_shape":
            (name,) = [thing.name for thing in things.values() if thing.color == colors[0]]
            return name
        case "ask_count":
            found = [t for t in things.values() if t.name == names[0] and (not colors or t.color == colors[0])]
            return ("zero", "one", "two", "three", "four", "five")[len(found)]
        case "ask_exists":
            return "yes" if any((t.name, t.color) == (names[0], colors[0]) for t in things.values()) else "no"
        case "ask_position":
            pair = tuple(the(name)[0] for name in names)
            return next(one for one in world.RELATIONS if pair in world.pairs_in_relation(one))
        case "ask_size":
            return next(name for name in names if the(name)[1].size == "large")
        case "ask_read":
            return "".join(t.name[-1] for _, t in sorted(things.items()) if t.is_letter)
        case "ask_ground":
            (ground,) = {LOOKS[look].ground for look in question.looks}
            return ground
    look = LOOKS[question.looks[the(names[0])[0]]]
    if question.tag == "ask_outline":
        return "yes" if look.outlined else "no"
    return {"pale": "light", "dark": "dark"}[look.shade]


@pytest.mark.parametrize("tag", QUESTION_TAGS)
def test_the_answer_is_what_the_picture_shows(tag: str) -> None:
    for question in questions(tag, ["rl", "heldout"], 80):
        assert seen(question) == question.answer, question.text
        assert len(things_in(question.scene)) <= GRID * GRID
        assert question.looks.any() <= (tag in FINE_TAGS)


@pytest.mark.parametrize("tag", QUESTION_TAGS)
def test_no_content_is_in_two_splits(tag: str) -> None:
    parts = [set(question_contents(tag, split)) for split in world.SPLITS]
    assert all(parts)
    assert not parts[0] & parts[1] and not parts[2] & (parts[0] | parts[1])


@pytest.mark.parametrize("tag", ["ask_exists", "ask_outline", "ask_shade", "ask_count", "ask_position", "ask_ground"])
def test_no_answer_is_more_frequent_than_another(tag: str) -> None:
    for split in world.SPLITS:
        answers = Counter(one.answer for one in question_contents(tag, split))
        assert len(set(answers.values())) == 1


def test_how_many_things_there_are_does_not_tell_yes_from_no() -> None:
    counts: dict[str, list[int]] = {"yes": [], "no": []}
    for question in questions("ask_exists", ["train"], 400):
        counts[question.answer].append(len(things_in(question.scene)))
    assert abs(np.mean(counts["yes"]) - np.mean(counts["no"])) < 0.3


def test_details_are_below_the_codebook() -> None:
    """Without their looks, two pictures with different answers are the same."""
    for question in questions("ask_outline", ["rl"], 20):
        plain = world.picture(question.scene)
        assert not np.array_equal(question.picture, plain)
        assert np.abs(question.picture.astype(int) - plain).max() < 140


def test_questions_are_prompts_with_a_picture_and_the_answer() -> None:
    found = prompts("heldout", 6, COARSE_TAGS)
    assert len({prompt.id for prompt in found}) == len(found) == 6 * len(COARSE_TAGS)
    for prompt in found:
        assert prompt.metadata["task"] == "answer" and prompt.pictures[0].pixels.shape == (64, 64, 3)
        assert isinstance(prompt.metadata["answer"], int if prompt.metadata["tag"] == "ask_count" else str)
    again = prompts("heldout", 6, COARSE_TAGS)
    assert [(one.text, one.pictures[0].digest) for one in found] == [(o.text, o.pictures[0].digest) for o in again]


def test_a_description_names_all_things_row_by_row() -> None:
    rows = QuestionRows(shares={DESCRIBE: 1.0}, mislabelled=1.0)
    for number in range(40):
        question = rows.question(number)
        things = [thing for _, thing in sorted(things_in(question.scene).items())]
        assert question.text == "describe the picture"
        assert question.answer.split(" and ") == [f"{thing.color} {thing.name}" for thing in things]
        assert 2 <= len(things) <= 5
    with pytest.raises(UserError, match="unknown task 'describe'"):
        prompts("rl", 1, (DESCRIBE,))


def test_what_a_blind_guess_gets() -> None:
    levels = chance_levels(prompts("heldout", 200, QUESTION_TAGS))
    assert levels["ask_exists"] == pytest.approx(0.5, abs=0.05)
    assert levels["ask_count"] < 0.25 and levels["ask_ground"] == pytest.approx(1 / 3, abs=0.05)


def test_an_unknown_question_is_told() -> None:
    with pytest.raises(UserError, match="unknown question 'ask_why'; choose among ask_color"):
        next(questions("ask_why", ["rl"], 1))
    with pytest.raises(UserError, match="unknown split 'all'; choose among train, rl, heldout"):
        next(questions("ask_color", ["all"], 1))
    with pytest.raises(UserError, match="unknown split 'all'; choose among train, rl, heldout"):
        question_contents(DESCRIBE, "all")
