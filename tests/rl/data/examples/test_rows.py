"""Rows of other people's data sets: which column is what, conversations, and what is no example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl.data.examples.contract import Example
from rl.data.examples.rows import check_columns, to_example
from rl.data.pictures import Picture
from rl.data.tasks import is_question
from rl.types import UserError


def read(row: dict[str, Any], columns: dict[str, Any] | None = None) -> Example:
    return to_example(row, "set.jsonl:3", lambda cell: Picture(Path(cell)), columns)


def turns(asked: str, answered: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]


def files(example: Example) -> list[str]:
    return [str(one.source) for one in example.prompt.pictures]


@pytest.mark.parametrize(
    ("row", "text", "picture", "before"),
    [
        ({"txt": "two cats", "jpg": "a.jpg"}, "two cats", "a.jpg", []),
        ({"caption": " a dog\n", "image": "d.png", "width": 3}, "a dog", "d.png", []),
        (
            {"instruction": "a hat", "output_image": "o.png", "input_images": ["i.png"]},
            "a hat",
            "o.png",
            ["i.png"],
        ),
        ({"edit_prompt": "redder", "edited_image": "o.png", "image": "i.png"}, "redder", "o.png", ["i.png"]),
        (
            {
                "image": "c.png",
                "conversations": [{"from": "human", "value": "a red cup"}, {"from": "gpt", "value": "<image>"}],
            },
            "a red cup",
            "c.png",
            [],
        ),
        (
            {
                "images": ["before.png", "after.png"],
                "messages": [
                    {"role": "user", "content": "<image>\nmake it blue"},
                    {"role": "assistant", "content": [{"type": "text", "text": "here:"}, {"type": "image"}]},
                ],
            },
            "make it blue",
            "after.png",
            ["before.png"],
        ),
    ],
)
def test_forms_of_rows(row: dict[str, Any], text: str, picture: str, before: list[str]) -> None:
    found = read(row)
    assert found.picture is not None
    assert (found.prompt.text, str(found.picture.source), files(found)) == (text, picture, before)
    assert found.prompt.source == "set.jsonl:3"


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"image": "a.png", "conversations": turns("<image>\nwhat is it?", "a cat\n")}, None),
        (
            {
                "images": ["a.png"],
                "messages": [
                    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}]},
                    {"role": "assistant", "content": "a cat"},
                ],
            },
            None,
        ),
        ({"image": "a.png", "question": "what is it?", "answer": "a cat"}, None),
        (
            {"photo": "a.png", "asked": "what is it?", "said": "a cat"},
            {"prompt": "asked", "picture": "photo", "answer": "said"},
        ),
    ],
)
def test_a_question_is_answered_in_words(row: dict[str, Any], columns: dict[str, Any] | None) -> None:
    found = read(row, columns)
    assert (found.prompt.text, found.answer, files(found)) == ("what is it?", "a cat", ["a.png"])
    assert is_question(found.prompt) and found.prompt.metadata["answer"] == "a cat"
    assert found.picture is not None and str(found.picture.source) == "a.png"  # what it is about


def test_further_questions_and_answers_of_a_conversation_follow_the_first() -> None:
    found = read(
        {
            "image": "a.png",
            "conversations": [
                {"from": "system", "value": "be kind"},
                *turns("<image>\nwhat is it?", "a cat"),
                *turns("is it\nred?", " no "),
                *turns("sure?", "yes"),
            ],
        }
    )
    assert (found.prompt.text, found.answer, files(found)) == ("what is it?", "a cat", ["a.png"])
    assert found.further == (("is it red?", "no"), ("sure?", "yes")) and is_question(found.prompt)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"conversations": turns("what is a cat?", "an animal")}, None),
        ({"asked": "what is a cat?", "said": "an animal"}, {"prompt": "asked", "answer": "said"}),
    ],
)
def test_a_row_without_a_picture_is_text_alone(row: dict[str, Any], columns: dict[str, Any] | None) -> None:
    check_columns(columns) if columns else None
    found = read(row, columns)
    assert (found.prompt.text, found.answer, found.picture, files(found)) == ("what is a cat?", "an animal", None, [])
    assert not is_question(found.prompt)  # which is one about a picture


def test_columns_say_otherwise_and_ids_and_plain_values_are_kept() -> None:
    row = {"id": 7, "short": "a cat", "long": "a cat on a mat", "pic": "p.png", "src": ["s.png"], "tag": "animals"}
    found = read(row, {"prompt": "long", "picture": "pic", "pictures": ["src"]})
    assert (found.prompt.id, found.prompt.text, files(found)) == ("7", "a cat on a mat", ["s.png"])
    assert found.prompt.metadata == {"short": "a cat", "tag": "animals"}


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        (
            {"url": "x", "image": "a.png"},
            None,
            "no column is its prompt (it has url, image); columns: {prompt: ...} names it",
        ),
        (
            {"prompt": "x", "score": 1},
            None,
            "no column is its picture (it has prompt, score); columns: {picture: ...} names it",
        ),
        (
            {"caption": "x", "img": "a"},
            {"prompt": "captoin", "picture": "img"},
            "there is no column 'captoin', did you mean 'caption'? (it has caption, img)",
        ),
        ({"prompt": 3, "image": "a"}, None, "its prompt must be text, got 3"),
        ({"prompt": "x", "image": ["a", "b"]}, None, "'image' holds 2 pictures, and an example has one to learn"),
        (
            {"images": ["a", "b"], "conversations": turns("<image> or <image>?", "a cat")},
            None,
            "its answer is words, and its question holds 2 pictures; a policy answers about one; leave such rows out",
        ),
        (
            {"image": "a", "conversations": turns("<image> bluer", "<image>")},
            None,
            "'conversations' has 2 marks <image>, and the row 1 pictures",
        ),
        (
            {"image": "a", "conversations": turns("what?", "a cat")},
            None,
            "'conversations' has 0 marks <image>, and the row 1 pictures",
        ),
        ({"image": "a", "question": "what?", "answer": 3}, None, "its answer must be text, got 3"),
        (
            {"images": ["a", "b"], "conversations": turns("<image> or <image>?", "<image> <image>")},
            None,
            "its answer is 2 pictures, and a policy writes one; leave such rows out",
        ),
        (
            {"image": "a", "messages": [{"role": "user", "content": "x"}]},
            None,
            "'messages' has 1 questions and 0 answers; behind each question must stand its answer",
        ),
        (
            {"conversations": [*turns("a", "b"), *reversed(turns("c", "d"))]},
            None,
            "'conversations' has 2 questions and 2 answers; behind each question must stand its answer",
        ),
        (
            {"image": "a", "conversations": [*turns("a red cup", "<image>"), *turns("and now?", "no")]},
            None,
            "a picture is the answer in a conversation of 2 questions, and a policy draws for one; leave such rows out",
        ),
        (
            {"image": "a", "conversations": [*turns("hello", "hi"), *turns("<image> what?", "a cat")]},
            None,
            "a picture is shown behind the first question, and a policy reads it in that; leave such rows out",
        ),
        (
            {"image": "a", "conversations": [*turns("<image> what?", "a cat"), *turns(" ", "yes")]},
            None,
            "its prompt must be text, got ''",
        ),
        ({"image": "a", "conversations": turns("<image> what?", " ")}, None, "its answer must be text, got ' '"),
        (
            {"question": "what?", "answer": "a cat"},
            None,
            "no column is its prompt (it has question, answer); columns: {prompt: ...} names it",
        ),
    ],
)
def test_what_is_no_example_is_one_sentence(row: dict[str, Any], columns: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read(row, columns)
    assert str(caught.value) == f"set.jsonl:3: {said}"


def test_columns_name_parts_of_an_example() -> None:
    with pytest.raises(UserError, match="there is no 'promt' of an example, did you mean 'prompt'"):
        check_columns({"promt": "a", "picture": "b"})
    with pytest.raises(UserError, match="names the prompt of an example and no picture; add picture: ..."):
        check_columns({"prompt": "a"})
