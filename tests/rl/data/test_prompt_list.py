"""Repeated prompts, and what a user is told about the prompts of a source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rl.config.schema import Component
from rl.data.pictures import Picture
from rl.data.prompt_list import PromptList, gathered, keys_of, name_of, overlap
from rl.data.prompts import jsonl, load_prompts, text
from rl.types import Prompt, UserError


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_repeated_lines_are_taken_once_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "tag": "x"}, {"prompt": "a", "tag": "y"}, {"prompt": "b", "id": 7}]
    path = write(tmp_path / "p.jsonl", *rows * 4)
    found = jsonl(path=path)
    assert [(p.text, p.source) for p in found] == [("a", f"{path}:1"), ("a", f"{path}:2"), ("b", f"{path}:3")]
    assert found.notes == ("9 of 12 prompts repeat an earlier one, and are taken once (repeats: keep takes all)",)
    (tmp_path / "p.txt").write_text("\ufeffa cat\na cat\n a cat \n")
    assert len(text(path=str(tmp_path / "p.txt"))) == 1


def test_an_up_sampled_set_may_keep_its_repeats(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *[{"prompt": "a", "id": "x"}] * 3, {"prompt": "b", "id": "y"})
    found = jsonl(path=path, repeats="keep")
    assert [prompt.id for prompt in found] == ["x", "x.2", "x.3", "y"]
    assert found.notes == ("2 of 4 prompts repeat an earlier one, and are kept under ids of their own",)
    with pytest.raises(UserError, match="repeats is 'twice'; it must be 'once' or 'keep'"):
        jsonl(path=path, repeats="twice")  # type: ignore[arg-type]


def test_prompts_that_look_alike_stay_and_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": p} for p in ("a cat", "a cat ", "a  cat", "caf\u00e9", "cafe\u0301", "a dog")]
    found = jsonl(path=write(tmp_path / "p.jsonl", *rows))
    assert len(found) == 6
    assert found.notes == (
        "3 prompts differ from another in white space or Unicode form only; the policy reads them as they are",
    )


def test_notes_of_a_run_name_their_key(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "a"})
    found = load_prompts(Component(use="jsonl", options={"path": path}), "data.eval")
    assert found.notes == (
        "data.eval: 1 of 2 prompts repeat an earlier one, and are taken once (repeats: keep takes all)",
    )


def test_a_source_of_your_own_may_only_give_prompts() -> None:
    one = Prompt("a", "a")
    assert gathered([one, one], "mine") == [one]
    assert isinstance(gathered([one], "mine"), PromptList)
    with pytest.raises(UserError, match=r"^mine: a source of prompts must give rl.types.Prompt, not dict$"):
        gathered([{"prompt": "a"}], "mine")  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"^mine: there are no prompts$"):
        gathered([], "mine")


def test_names_and_keys_in_messages() -> None:
    assert name_of(Prompt("a", "x" * 90, source="p:1")) == f"prompt 'a' ('{'x' * 77}...', p:1)"
    many = [Prompt(str(i), "x", {f"k{i}": 1, "all": 0, "none": None}) for i in range(14)]
    assert keys_of(many).startswith("'k0' (1 of 14), 'all' (14 of 14), 'k1' (1 of 14)")
    assert keys_of(many).endswith("'k10' (1 of 14), 3 more")


def test_overlap_sees_through_spaces_and_unicode_forms() -> None:
    train = [Prompt("1", "a cat"), Prompt("2", "caf\u00e9"), Prompt("3", "a dog")]
    held_out = [Prompt("a", " a  cat"), Prompt("b", "cafe\u0301"), Prompt("c", "a Cat")]
    assert overlap(train, held_out) == 2


def test_the_same_question_about_another_picture_is_another_prompt() -> None:
    one, other = (Picture(np.full((8, 8, 3), value, np.uint8)) for value in (1, 2))
    train = [Prompt("1", "how many circles?", pictures=(one,))]
    assert overlap(train, [Prompt("a", "how many circles?", pictures=(other,))]) == 0
    assert overlap(train, [Prompt("a", "how many circles?", pictures=(Picture(one.pixels.copy()),))]) == 1


@pytest.mark.parametrize(
    ("use", "options", "message"),
    [
        ("jsonl", {"path": 2024}, "data.train: options.path is 2024; it must be text"),
        ("text", {"path": "x", "repeats": "no"}, "data.train: options.repeats is 'no'; it must be 'once' or 'keep'"),
        ("hf", {"name": "x", "limit": "ten"}, "data.train: options.limit is 'ten'; it must be a whole number"),
        ("geneval", {"per_task": "all"}, "data.train: options.per_task is 'all'; it must be a whole number or "
         "a mapping"),
        ("shapes", {"tags": "ocr"}, "data.train: options.tags is 'ocr'; it must be "),
    ],
)  # fmt: skip
def test_options_of_another_type_are_named(use: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_prompts(Component(use=use, options=options), "data.train")
    assert str(caught.value).startswith(message)
