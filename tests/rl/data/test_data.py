"""Prompt files and the stream of prompts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rl.config.schema import Component, RewardComponent
from rl.data.pictures import Picture
from rl.data.prompts import jsonl, load_prompts, text
from rl.data.stream import PromptStream, needs_of, require_applicable, require_metadata, require_text_alone
from rl.types import Prompt, UserError


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{i}", f"prompt {i}") for i in range(count)]


def write(path: Path, *lines: object) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return str(path)


def complaint(path: str) -> str:
    with pytest.raises(UserError) as caught:
        jsonl(path=path)
    return str(caught.value)


def test_jsonl(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "two red circles", "tag": "counting", "include": [{"class": "circle", "count": 2}]},
        "",
        {"prompt": "a cat\u2028here", "id": 7},
    )
    first, second = jsonl(path=path)
    assert first.text == "two red circles"
    assert first.metadata["tag"] == "counting"
    assert "source" not in first.metadata and first.source == f"{path}:1"
    assert (second.id, second.text) == ("7", "a cat\u2028here")
    assert (second.metadata, second.source) == ({}, f"{path}:3")


def test_ids_are_of_the_content(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "tag": "x"}, {"prompt": "a", "tag": "y"}, {"prompt": "b", "tag": "x"}]
    here = jsonl(path=write(tmp_path / "a.jsonl", *rows))
    there = jsonl(path=write(tmp_path / "b.jsonl", *reversed(rows)))
    assert [p.id for p in here] == [p.id for p in reversed(there)]
    assert len({p.id for p in here}) == 3
    assert here[0].id == "p2190c0fe4512"  # fixed: a new version must not rename everyone's prompts


def test_pictures_of_a_line_are_files_beside_the_prompt_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, level in (("cat", 10), ("in/hat", 20)):
        Image.new("RGB", (6, 4), (level,) * 3).save(tmp_path / f"{name}.png")
    rows = [{"prompt": "a", "tag": "x", "image": "cat.png"}, {"prompt": "b", "images": ["in/hat.png", "cat.png"]}]
    rows += [{"prompt": "c", "images": []}, {"prompt": "d", "reference": "cat.png", "source": "a book"}]
    one, two, none, other = jsonl(path=write(tmp_path / "p.jsonl", *rows))
    assert [p.pixels[0, 0, 0] for p in (*one.pictures, *two.pictures)] == [10, 20, 10]
    assert (one.metadata, two.metadata, none.metadata, none.pictures) == ({"tag": "x"}, {}, {}, ())
    assert (other.metadata, other.pictures) == ({"reference": "cat.png", "source": "a book"}, ())
    assert one.pictures[0] == two.pictures[1] and one.source == f"{tmp_path}/p.jsonl:1"
    # ids as they were when "image" was metadata: computed by that version
    assert [one.id, other.id] == ["p65e02a2dd246", "p92a535be71d5"]


def test_pictures_that_cannot_be_used_are_named_with_their_line(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "cat.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("1", (8200, 8200)).save(tmp_path / "large.png")
    where = f"{tmp_path}/p.jsonl:1"
    for given, message in (
        ({"image": "cta.png"}, f"there is no picture '{tmp_path}/cta.png' (paths start at the prompt file's folder; "
         "where the key means something else, give the prompts the option pictures: false), did you mean 'cat.png'?"),
        ({"image": "text.png"}, f"the picture '{tmp_path}/text.png' can't be read (cannot identify image file "
         f"'{tmp_path}/text.png'); replace it, or take it out of the prompt's line"),
        ({"images": ["cat.png", "large.png"]}, f"the picture '{tmp_path}/large.png' can't be read (it has 67,240,000 "
         "pixels, more than the 67,108,864 that are accepted); replace it, or take it out of the prompt's line"),
        ({"image": 3}, '"image" must be the path of a picture, got 3'),
        ({"images": "cat.png"}, '"images" must be a list of paths of pictures, got \'cat.png\''),
        ({"images": ["cat.png", ""]}, '"images" must be a list of paths of pictures, got [\'cat.png\', \'\']'),
        ({"image": "a", "images": []}, 'this line has "image" and "images"; put all of them into "images"'),
    ):  # fmt: skip
        assert complaint(write(tmp_path / "p.jsonl", {"prompt": "a", **given})) == f"{where}: {message}"


def test_bad_lines(tmp_path: Path) -> None:
    good, path = {"prompt": "a"}, tmp_path / "p.jsonl"
    assert complaint(write(path, good, '{"prompt": ')) == (
        f"{path}:2: this line is not valid JSON (Expecting value, column 11)"
    )
    assert f"{path}:1: this line is not valid JSON (maximum recursion" in complaint(write(path, "[" * 100_000))
    assert f"{path}:1: this line is not valid JSON (Exceeds the limit" in complaint(write(path, "9" * 5_000))
    assert complaint(write(path, good, good | {"x": 1}, {"promt": "b"})) == (
        f"{path}:3: this line has no \"prompt\" (non-empty text), did you mean 'promt'?"
    )
    assert 'has no "prompt" (non-empty text)' in complaint(write(path, {"prompt": "  "}))
    assert "must be a JSON object" in complaint(write(path, "[1]"))
    assert '"id" must be text or a whole number, got 1.5' in complaint(write(path, {"prompt": "a", "id": 1.5}))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", "", "  ")
    assert complaint(path) == f"the prompt file {path!r} is empty; write one prompt per line"
    assert complaint(str(tmp_path / "trian.jsonl")).endswith("trian.jsonl', did you mean 'train.jsonl'?")
    assert "can't be read" in complaint(str(tmp_path))


def test_duplicates(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "id": "x"}, {"prompt": "b", "id": "x"})
    assert complaint(path) == (
        f"{path}: prompt 'x' ('a', {path}:1) and prompt 'x' ('b', {path}:2) have the same id; remove one or give them "
        f"different ids"
    )
    rows = [{"prompt": name, "id": name[0]} for name in ("a", "b", "a", "a2", "b3", "b4", "b")]
    assert complaint(write(tmp_path / "p.jsonl", *rows)) == (
        f"{path}: prompt 'a' ('a', {path}:1) and prompt 'a' ('a2', {path}:4) have the same id; 2 more have an id that "
        f"is taken; remove one or give them different ids"
    )


def test_text(tmp_path: Path) -> None:
    assert [p.text for p in text(path=write(tmp_path / "p.txt", "one", "", "  two  "))] == ["one", "two"]


def test_load_prompts_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data.eval: there is no prompt file"):
        load_prompts(Component(use="jsonl", options={"path": str(tmp_path / "no.jsonl")}), "data.eval")
    (tmp_path / "p.txt").write_text("a")
    assert len(load_prompts(Component(use="text", options={"path": str(tmp_path / "p.txt")}), "data.train")) == 1


@pytest.mark.parametrize(("count", "per_step"), [(10, 4), (7, 7), (8, 4), (5, 4), (9, 5), (40, 16), (1, 1), (31, 16)])
def test_stream_gives_everyone_their_turn(count: int, per_step: int) -> None:
    stream = PromptStream(prompts(count), per_step, seed=3)
    steps = [[p.id for p in stream.at(step)] for step in range(6 * count)]
    assert all(len(set(ids)) == len(ids) == per_step for ids in steps)
    drawn = [name for ids in steps for name in ids]
    for epoch in range(len(drawn) // count):
        assert set(Counter(drawn[epoch * count : (epoch + 1) * count]).values()) == {1}


def test_stream_is_a_function_of_the_step() -> None:
    ahead = PromptStream(prompts(11), 4, seed=5)
    expected = [ahead.at(step) for step in range(30)]
    assert PromptStream(prompts(11), 4, seed=5).at(29) == expected[29]
    assert ahead.at(3) == expected[3]
    assert [PromptStream(prompts(11), 4, seed=6).at(step) for step in range(30)] != expected


def test_stream_shuffles_anew_each_epoch() -> None:
    stream = PromptStream(prompts(50), 50, seed=0)
    assert stream.at(0) != stream.at(1)
    assert stream.at(0) != prompts(50)


def test_too_few_prompts() -> None:
    with pytest.raises(UserError) as caught:
        PromptStream(prompts(3), 4, seed=0)
    assert str(caught.value) == (
        "data.prompts_per_step is 4, but data.train has only 3 different prompts; lower it to at most 3 or add prompts"
    )


def test_metadata_for_the_rewards() -> None:
    both = {"geneval": ("include",), "ocr": ("text",)}
    objects = Prompt("a", "two circles", {"include": [{"class": "circle"}]})
    words = Prompt("b", "the word CAT", {"text": "CAT"})
    bare = Prompt("c", "a house", {"text": ""}, source="p.jsonl:9")
    require_metadata([objects, words], both)
    require_metadata([bare], {"mine": ()})
    require_metadata([bare], {"ocr": ("text",), "mine": ()})
    with pytest.raises(UserError) as caught:
        require_metadata([objects, bare, words], {"geneval": ("include",)})
    assert str(caught.value) == (
        "prompt 'c' ('a house', p.jsonl:9) lacks what its reward needs: 'include' (reward geneval)"
        "; so does 1 more prompt; "
        "add it to the prompt's line or choose a reward that fits (what the prompts hold: 'include' (1 of 3), "
        "'text' (2 of 3))"
    )
    with pytest.raises(UserError, match=r"needs: 'include' \(reward geneval\) or 'text' \(reward ocr\); add it"):
        require_metadata([objects, words, bare], both)
    signs = [Prompt("d", 'a sign "OPEN"'), Prompt("e", "a house", {"include": None})]
    with pytest.raises(UserError, match=r"\(what the prompts hold: none; 1 of 2 without 'text' have one quoted text, "
                       r"which quoted: text takes\)$"):  # fmt: skip
        require_metadata(signs, {"ocr": ("text",)})


def test_a_reward_that_no_prompt_is_for() -> None:
    found = [Prompt("a", "two circles", {"include": [1], "tag": "counting"}), Prompt("b", "x", {"tag": "colors"})]
    fits = {"g": RewardComponent(use="geneval"), "mine": RewardComponent(use="my:reward", tags=("counting",))}
    assert require_applicable(found, fits) == []
    with pytest.raises(UserError) as caught:
        require_applicable(found, {"o": RewardComponent(use="ocr")})
    assert str(caught.value) == (
        "the reward 'o' applies to none of the 2 prompts: it looks for 'text', and they hold 'include' (1 of 2), "
        "'tag' (2 of 2); add it to the prompts or choose a reward that fits"
    )
    mistyped = RewardComponent(use="my:reward", tags=("count",), metadata=("include",))
    with pytest.raises(UserError, match=r"it looks for 'include' and a tag among \['count'\], and they hold .* and the "
                       r"tags 'colors', 'counting'; add"):  # fmt: skip
        require_applicable(found, {"mine": mistyped})
    (note,) = require_applicable(found, {"o": RewardComponent(use="ocr", role="monitor")})
    assert note.startswith("the reward 'o' applies to none of the 2 prompts: it looks for 'text'")


def test_a_policy_of_text_alone_refuses_pictures_by_name() -> None:
    edit = Prompt("e", "make it blue", pictures=(Picture(np.zeros((2, 2, 3), np.uint8)),), source="p.jsonl:9")
    require_text_alone(prompts(2), "template", "shapes")
    with pytest.raises(UserError) as caught:
        require_text_alone([*prompts(1), edit], "template", "shapes")
    assert str(caught.value) == (
        "prompt 'e' ('make it blue', p.jsonl:9) holds pictures, and the policy 'shapes' reads text alone (its prompt "
        "encoder 'template' does not declare `pictures = True`); take them out of the prompts' lines or choose a "
        "policy that reads pictures"
    )
    with pytest.raises(UserError, match="holds pictures, as do 2 more, and the policy"):
        require_text_alone([edit] * 3, "template", "shapes")


def test_needs_of_training_rewards() -> None:
    rewards = {
        "g": RewardComponent(use="geneval"),
        "o": RewardComponent(use="ocr", role="monitor"),
        "mine": RewardComponent(use="my:reward"),
    }
    assert needs_of(rewards) == {"g": ("include",), "mine": ()}


@pytest.mark.slow
def test_hugging_face_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from rl.data.hugging_face import hf

    write(tmp_path / "train.jsonl", {"caption": "a", "text": None}, {"caption": "b", "text": "B"})
    first, second = hf(name=str(tmp_path), column="caption")
    assert (first.text, second.text) == ("a", "b")
    assert "text" not in first.metadata
    assert second.metadata["text"] == "B"
    assert len(hf(name=str(tmp_path), column="caption", limit=1)) == 1
    with pytest.raises(UserError, match="has no column 'captoin', did you mean 'caption'?"):
        hf(name=str(tmp_path), column="captoin")
    with pytest.raises(UserError, match="can't be loaded"):
        hf(name=str(tmp_path / "none"))


@pytest.mark.slow
def test_hugging_face_images_are_the_prompts_pictures(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from rl.data.hugging_face import hf

    for name, level in (("a", 10), ("b", 20)):
        Image.new("RGB", (6, 4), (level,) * 3).save(tmp_path / f"{name}.png")
    write(tmp_path / "metadata.jsonl", *({"file_name": f"{n}.png", "prompt": "blue", "tag": n} for n in "ab"))
    first, second = hf(name=str(tmp_path))
    assert [p.pictures[0].pixels[0, 0, 0] for p in (first, second)] == [10, 20]
    assert (first.metadata, first.text, first.source) == ({"tag": "a"}, "blue", f"{tmp_path}[train]:0")
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in ("a.png", "b.png", "metadata.jsonl"):
        (tmp_path / file).rename(moved / file)
    assert [p.id for p in hf(name=str(moved))] == [first.id, second.id]

    import datasets

    rows = {
        "prompt": ["x", "y"],
        "images": [[str(moved / "a.png"), str(moved / "b.png")], []],
        "image": ["a.png", "b.png"],
    }
    features = datasets.Features(
        {
            "prompt": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "image": datasets.Value("string"),
        }
    )
    (tmp_path / "rows").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows" / "train.parquet")
    both, none = hf(name=str(tmp_path / "rows"))
    assert [p.pixels[0, 0, 0] for p in both.pictures] == [10, 20] and none.pictures == ()
    assert (both.metadata, none.metadata) == ({"image": "a.png"}, {"image": "b.png"})  # a column of text stays one


def test_keys_of_pictures_may_stay_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "image": "http://x/y.png"})
    (prompt,) = jsonl(path=str(path), pictures=False)
    assert (prompt.pictures, prompt.metadata) == ((), {"image": "http://x/y.png"})


def test_a_monitor_alone_may_score_held_out_prompts() -> None:
    rewards = {"ocr": RewardComponent(use="ocr"), "seen": RewardComponent(use="geneval", role="monitor")}
    prompts = [Prompt("h0", "a circle", {"include": [{"class": "circle", "count": 1}]})]
    require_metadata(prompts, needs_of(rewards, ("train", "monitor")))
    with pytest.raises(UserError, match="lacks what its reward needs"):
        require_metadata(prompts, needs_of(rewards))
