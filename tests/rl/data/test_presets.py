"""Prompts made by rule: GenEval's six tasks, and words to read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rewards.library.geneval.colors import COLORS as JUDGED_COLORS
from rewards.library.geneval.rules import parse
from rl.data.presets.coco import CLASSES, one, plural
from rl.data.presets.geneval import COLORS, geneval
from rl.data.presets.words import WORDS, words
from rl.data.prompts import jsonl
from rl.data.quoted import one_quoted_text
from rl.types import Prompt, UserError

# Lines in the form of the benchmark's own file, one of each task.
OFFICIAL = (
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "two_object", "include": [{"class": "apple", "count": 1}, {"class": "tv", "count": 1}],
     "prompt": "a photo of an apple and a tv"},
    {"tag": "counting", "include": [{"class": "bus", "count": 3}], "exclude": [{"class": "bus", "count": 4}],
     "prompt": "a photo of three buses"},
    {"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "orange"}],
     "prompt": "a photo of an orange cow"},
    {"tag": "position",
     "include": [{"class": "cup", "count": 1}, {"class": "oven", "count": 1, "position": ["above", 0]}],
     "prompt": "a photo of an oven above a cup"},
    {"tag": "color_attr", "include": [{"class": "car", "count": 1, "color": "red"},
     {"class": "kite", "count": 1, "color": "white"}], "prompt": "a photo of a red car and a white kite"},
)  # fmt: skip


def by_task(prompts: list[Prompt]) -> Counter[str]:
    return Counter(prompt.metadata["tag"] for prompt in prompts)


def asked(prompt: Prompt) -> tuple[str, frozenset[str]]:
    """The task, and its classes with what the split is about: a number, a colour."""
    tag, clauses = prompt.metadata["tag"], prompt.metadata["include"]
    extra = {"counting": "count", "colors": "color"}.get(tag)
    return tag, frozenset(f"{clause['class']} {clause[extra] if extra else ''}" for clause in clauses)


def test_the_official_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in OFFICIAL))
    found = jsonl(path=str(path))
    assert [{**prompt.metadata, "prompt": prompt.text} for prompt in found] == list(OFFICIAL)
    assert found.notes == ()


def test_prompts_have_the_official_form() -> None:
    found = geneval(per_task=2000, tags=("two_object", "counting", "colors", "position", "color_attr"))
    for prompt in found:
        row: dict[str, Any] = {**prompt.metadata, "prompt": prompt.text}
        assert row.keys() == {"tag", "include", "prompt"} | ({"exclude"} if row["tag"] == "counting" else set())
        assert parse(row) is not None
    texts = {prompt.text: prompt.metadata for prompt in geneval(per_task=3000)}
    texts |= {prompt.text: prompt.metadata for prompt in geneval(split="heldout", per_task=3000)}
    for row in OFFICIAL[:4]:  # of these four tasks every prompt is made
        assert {**texts[str(row["prompt"])], "prompt": row["prompt"]} == row
    assert set(COLORS) == set(JUDGED_COLORS)


def test_train_and_held_out_share_nothing_whatever_the_seed() -> None:
    train = geneval(per_task=3000, seed=1)
    held_out = geneval(split="heldout", per_task=3000, seed=2)
    assert not set(map(asked, train)) & set(map(asked, held_out))
    assert by_task(train)["single_object"] + by_task(held_out)["single_object"] == 80
    assert by_task(train)["counting"] + by_task(held_out)["counting"] == 3 * 80
    assert by_task(train)["colors"] + by_task(held_out)["colors"] == 10 * 79
    assert by_task(train)["position"] == by_task(train)["color_attr"] == 3000
    assert len({prompt.id for prompt in [*train, *held_out]}) == len(train) + len(held_out)


def test_a_seed_makes_the_same_prompts_again() -> None:
    assert geneval(seed=3) == geneval(seed=3)
    assert [p.text for p in geneval(seed=3)] != [p.text for p in geneval(seed=4)]
    assert words(seed=3) == words(seed=3) != words(seed=4)


def test_counts_per_task() -> None:
    assert by_task(geneval(per_task=7)) == dict.fromkeys(by_task(geneval()), 7)
    assert by_task(geneval(per_task={"colors": 5, "counting": 2}, tags=["colors", "counting"])) == {
        "colors": 5,
        "counting": 2,
    }
    for options, message in (
        ({"tags": ["color"]}, "geneval: there is no task 'color', did you mean 'colors'? (known: single_object, "),
        ({"per_task": {"colors": 5}}, "geneval: per_task says None for 'single_object'; give a whole number, or leave"),
        ({"per_task": {"single_object": 65}, "tags": ["single_object"]},
         "geneval: 'single_object' has 64 prompts in 'train', and per_task asks for 65"),
        ({"split": "test"}, "geneval: split is 'test'; it must be 'train' or 'heldout'"),
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            geneval(**options)  # type: ignore[arg-type]
        assert str(caught.value).startswith(message)


def test_the_prompts_of_a_file_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "official.jsonl"
    some = geneval(tags=["colors"], per_task=50)
    path.write_text("\n".join(json.dumps({"prompt": prompt.text}) for prompt in some))
    rest = geneval(tags=["colors"], per_task=1000, without=str(path))
    assert len(rest) == 632 - 50
    assert not {p.text for p in some} & {p.text for p in rest}


def test_articles_and_plurals() -> None:
    assert [one("apple"), one("red car"), one("tv")] == ["an apple", "a red car", "a tv"]
    assert [
        plural(name) for name in ("bus", "bench", "knife", "person", "sheep", "wine glass", "toothbrush", "cup")
    ] == (["buses", "benches", "knives", "people", "sheep", "wine glasses", "toothbrushes", "cups"])
    assert len(set(CLASSES)) == 80


def test_words_to_read_are_the_one_quoted_text() -> None:
    train, held_out = words(count=600), words(split="heldout", count=200, most_words=2)
    assert (len(train), len(held_out)) == (600, 200)
    for prompt in [*train, *held_out]:
        assert prompt.metadata == {"tag": "ocr", "text": one_quoted_text(prompt.text)}
    seen, unseen = ({word.lower() for p in some for word in p.metadata["text"].split()} for some in (train, held_out))
    assert seen | unseen <= set(WORDS) and not seen & unseen
    assert {len(prompt.metadata["text"].split()) for prompt in train} == {1, 2, 3}
    assert len(set(WORDS)) == len(WORDS)


def test_words_refuse_what_cannot_be_made() -> None:
    with pytest.raises(UserError, match="words: most_words is 0; it must be 1 to 6"):
        words(most_words=0)
    with pytest.raises(UserError, match=r"words: count is 99999; it must be 1 to [\d,]+ in 'heldout'"):
        words(split="heldout", count=99_999)
