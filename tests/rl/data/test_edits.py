"""Edits of the shapes world: splits that share nothing, targets that are unique, answers that are exact."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rl.data.pictures import Picture
from rl.data.shapes.captions import WORDS
from rl.data.shapes.edits.contents import EDIT_SPLITS, EDIT_TAGS, FINE_EDIT_TAGS, PROBE_TAGS, cross_pairs, edit_contents
from rl.data.shapes.edits.example import EditExample
from rl.data.shapes.edits.prompts import edit_examples
from rl.data.shapes.edits.rows import EditRows
from rl.data.shapes.edits.things import Thing, scene_of, thing_of, things_in
from rl.data.shapes.prompts import prompts
from rl.data.shapes.sprites import COLORS, GRID
from rl.data.shapes.world import CELLS, contents, picture
from rl.data.tasks import require_pictures, task_of
from rl.types import Prompt, UserError

_ALL = (*EDIT_TAGS, *PROBE_TAGS)
_BRING = ("edit_add", "edit_add_at", "edit_recolour", "edit_replace")


def _some(tag: str, split: str = "heldout", number: int = 60) -> list[EditExample]:
    return list(edit_examples(tag, [split], number))


def test_a_cell_is_a_thing_and_back() -> None:
    for cell in range(1, 99):
        thing = thing_of(cell)
        assert thing is not None and thing.cell == cell
    assert thing_of(0) is None
    assert thing_of(1) == Thing("circle", "red", "small")
    scene = scene_of({3: Thing("letter B", "black", ""), 5: Thing("star", "blue", "large")})
    assert things_in(scene) == {3: Thing("letter B", "black", ""), 5: Thing("star", "blue", "large")}


@pytest.mark.parametrize("tag", [*EDIT_TAGS, *FINE_EDIT_TAGS])
def test_splits_share_no_content(tag: str) -> None:
    splits = [one for one in EDIT_SPLITS if one != "cross" or tag in _BRING]
    found = {split: set(edit_contents(tag, split)) for split in splits}
    assert all(found.values())
    assert all(not found[one] & found[other] for one, other in combinations(splits, 2))


def test_pairs_of_class_and_colour_that_cross_brings_are_brought_by_nobody_else() -> None:
    assert len(cross_pairs()) == 7
    brought = {
        one.brings for tag in _BRING for split in ("train", "rl", "heldout") for one in edit_contents(tag, split)
    }
    assert not brought & cross_pairs()
    for tag in _BRING:
        assert {one.brings for one in edit_contents(tag, "cross")} <= cross_pairs()
    for tag, split in ((tag, split) for tag in _ALL for split in ("train", "heldout")):
        for one in _some(tag, split, 40):
            before, after = things_in(one.source), things_in(one.target)
            moved = {(thing.name, thing.color) for thing in before.values()}
            new = {(thing.name, thing.color) for thing in after.values()} - moved
            assert not new & cross_pairs(), one.instruction


def test_contents_are_as_many_as_there_are() -> None:
    numbers = {tag: sum(len(edit_contents(tag, split)) for split in EDIT_SPLITS[:3]) for tag in EDIT_TAGS}
    cross = {tag: len(edit_contents(tag, "cross")) for tag in _BRING}
    assert numbers["edit_add"] + cross["edit_add"] == 36
    assert numbers["edit_add_at"] + cross["edit_add_at"] == 720
    assert numbers["edit_recolour"] + cross["edit_recolour"] == 180
    assert numbers["edit_replace"] + cross["edit_replace"] == 210
    assert (numbers["edit_remove"], numbers["edit_move"], numbers["edit_swap"]) == (42, 24, 15)
    assert (numbers["edit_count"], numbers["edit_letter"]) == (72, 650)


@pytest.mark.parametrize("tag", _ALL)
def test_pictures_hold_two_to_five_things_and_change_only_where_they_may(tag: str) -> None:
    for one in _some(tag):
        things = things_in(one.source)
        assert 2 <= len(things) <= (6 if tag in ("edit_word", "edit_letter", "edit_count") else 5), one.instruction
        changed = np.flatnonzero(one.source != one.target)
        assert set(changed) <= set(one.editable)
        assert (tag == "edit_keep") == (not len(changed))
        assert np.array_equal(one.before, picture(one.source)) and one.after.shape == (64, 64, 3)


def test_what_is_named_is_one_alone() -> None:
    for tag in ("edit_remove", "edit_recolour", "edit_replace", "edit_move"):
        for one in _some(tag):
            words = one.instruction.replace("one cell", "").split()
            (target,) = (thing for place, thing in things_in(one.source).items() if place in one.editable)
            described = words[words.index(target.name) - 1]
            named = [thing for thing in things_in(one.source).values() if thing.name == target.name]
            if described in COLORS:
                named = [thing for thing in named if thing.color == described]
            assert named == [target], one.instruction


def test_each_operation_does_what_it_says() -> None:
    one = next(edit_examples("edit_move", ["rl"], 1))
    before, after = things_in(one.source), things_in(one.target)
    (place,), (to,) = before.keys() - after.keys(), after.keys() - before.keys()
    step = {"up": -GRID, "down": GRID, "left": -1, "right": 1}[one.instruction.split()[-1]]
    assert after[to] == before[place] and to - place == step
    for one in _some("edit_swap"):
        first, second = one.editable
        assert one.target[first] == one.source[second] and one.target[second] == one.source[first]
    for one in _some("edit_count"):
        numbers = {"one": 1, "two": 2, "three": 3, "four": 4}
        name = one.clauses[0]["count"]
        (wanted,) = (numbers[word] for word in one.instruction.split() if word in numbers)
        assert sum(thing.name == name for thing in things_in(one.target).values()) == wanted
        assert sum(thing.name == name for thing in things_in(one.source).values()) != wanted
    for one in _some("edit_word"):
        word = one.instruction.split('"')[1]
        letters = [things_in(one.target)[p].name[-1] for p in one.editable if p in things_in(one.target)]
        assert "".join(letters) == word


def test_words_stay_in_their_split() -> None:
    own = {content.words[0] for content in contents("ocr", "heldout")}
    for tag, split in (("edit_word", "train"), ("edit_letter", "train"), ("edit_letter", "heldout")):
        for one in _some(tag, split, 150):
            for scene in (one.source, one.target):
                things = things_in(scene)
                word = "".join(things[p].name[-1] for p in range(CELLS) if p in things and things[p].is_letter)
                assert word not in own if tag == "edit_word" else word not in WORDS, one.instruction


def test_two_edits_name_different_things() -> None:
    for one in _some("edit_two"):
        assert " and " in one.instruction and len(one.clauses) >= 2
        assert not one.instruction.split(" and ")[1].startswith("please")


def test_prompts_are_the_same_every_time_and_bring_their_pictures() -> None:
    once, again = (prompts("heldout", 5, ("edit_add", "edit_word")) for _ in range(2))
    assert [(p.id, p.text, p.metadata, p.pictures) for p in once] == [
        (p.id, p.text, p.metadata, p.pictures) for p in again
    ]
    assert once[0].id == "heldout-edit_add-0000" and len({p.id for p in once}) == 10
    assert {task_of(p) for p in once} == {"edit"} and once[0].metadata["tag"] == "edit_add"
    assert once[0].pictures[0].pixels.shape == (64, 64, 3)
    others = prompts("rl", 5, ("edit_add", "edit_word"))
    assert not {p.pictures[0].digest for p in once} & {p.pictures[0].digest for p in others}
    both = prompts("rl", {"single_object": 2, "edit_move": 3}, ("single_object", "edit_move"))
    assert [task_of(p) for p in both] == ["draw"] * 2 + ["edit"] * 3


def test_rows_to_learn_from_are_a_function_of_their_number() -> None:
    rows = EditRows(mislabelled=1.0, bad_from=40)
    for number in (0, 7):
        prompt, answer = rows[number]
        again, same = EditRows(mislabelled=1.0, bad_from=40)[number]
        assert (prompt.text, prompt.pictures) == (again.text, again.pictures) and answer == same
        one = rows.example(number)
        assert answer == Picture(one.after) and prompt.pictures == (Picture(one.before),)
    tags = [rows.example(number).tag for number in range(300)]
    assert set(tags) == {*EDIT_TAGS, "edit_keep"} and 15 <= tags.count("edit_keep") <= 50
    wrong = [EditRows().example(n).instruction != rows.example(n).instruction for n in range(80)]
    assert not any(wrong[:40]) and sum(wrong[40:]) > 25


@pytest.mark.parametrize(
    ("tags", "split", "words"),
    [
        (("edit_sing",), "rl", "unknown task 'edit_sing'"),
        (("edit_add",), "test", "unknown split 'test' of edits; choose among train, rl, heldout, cross"),
        (("edit_move",), "cross", "'edit_move' names no class with a colour that comes in, so split cross has none"),
    ],
)
def test_unknown_splits_and_operations_are_told(tags: tuple[str, ...], split: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        prompts(split, 1, tags)


def test_an_instruction_to_edit_needs_a_picture() -> None:
    prompt = Prompt("e1", "make it blue", {"task": "edit"}, source="p.jsonl:4")
    with pytest.raises(UserError) as caught:
        require_pictures([Prompt("d", "two rings"), prompt])
    assert str(caught.value) == (
        "prompt 'e1' ('make it blue', p.jsonl:4) is an instruction to edit (\"task\": \"edit\") and holds no picture; "
        'name the picture under "image" in its line'
    )


@pytest.mark.parametrize("tag", FINE_EDIT_TAGS)
def test_what_no_token_holds_changes_and_the_tokens_stay(tag: str) -> None:
    for one in _some(tag, "train", 40):
        assert one.looks is not None and (one.source == one.target).all()
        changed = int((one.looks[0] != one.looks[1]).sum())
        assert changed == (CELLS if tag == "fine_ground" else 1)
        assert (one.before != one.after).any() and one.metadata()["edit"]["looks"] is True
    (prompt,) = prompts("heldout", 1, [tag])
    assert prompt.metadata["tag"] == tag and task_of(prompt) == "edit"
    again = [one.instruction for one in _some(tag, "train", 5)]
    assert again == [one.instruction for one in _some(tag, "train", 5)]


def test_rows_to_learn_from_may_be_edits_below_the_codebook() -> None:
    rows = EditRows(shares={"fine_shade": 1.0, "edit_move": 1.0})
    tags = {rows.example(index).tag for index in range(20)}
    assert tags == {"fine_shade", "edit_move"}
