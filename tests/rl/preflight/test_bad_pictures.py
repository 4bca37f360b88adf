"""Wrong pictures, questions and examples, told by the command that a user types before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy.base import Policy
from policy.convert.to_policy import to_policy
from policy.json_file import read_json, write_json
from policy.shapes.vocabulary import with_answers
from rl.launch import main
from tests.policy.convert.twin import make_twin
from tests.policy.editing import editing_policy
from tests.rl.data.test_pictures import saved

QUESTION = {"prompt": "how many circles are there?", "image": "a.png", "task": "answer", "answer": "one"}
ANSWERS = {"answer": {"use": "answer"}}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return editing_policy(tmp_path_factory.mktemp("edits") / "policy")


def told(folder: Path, capsys: pytest.CaptureFixture[str], **sections: Any) -> str:
    """The one sentence of a dry run that ends with exit code 2."""
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump({"train": {"steps": 1}, "run": {"folder": str(folder / "run")}, **sections}))
    assert main([str(config), "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    [sentence] = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    return sentence


def of_prompts(folder: Path, policy: Path, rows: list[dict[str, Any]], **sections: Any) -> dict[str, Any]:
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = {"use": "jsonl", "options": {"path": str(folder / "p.jsonl")}}
    rewards = {"darkness": {"use": "rl.memory.reward:darkness"}}
    data = {"train": train, "prompts_per_step": 1, "eval": None}
    return {"policy": {"path": str(policy)}, "data": data, "rewards": rewards, **sections}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"prompt": "make it red", "task": "edit"}],
            'p.jsonl:1) is an instruction to edit ("task": "edit") and holds no picture; name the picture under',
        ),
        (
            [{"prompt": "make it red", "image": "a.png"}, {"prompt": "mix them", "images": ["a.png", "a.png"]}],
            "p.jsonl:2) holds 2 pictures, and this policy edits one; leave one in the prompt's line or choose a policy",
        ),
        (
            [{"prompt": "make it red", "image": "a.png"}, {"prompt": "make it blue", "image": "text.png"}],
            "p.jsonl:2: the picture '{folder}/text.png' can't be read (cannot identify image file",
        ),
        (
            [{"prompt": "make it red", "image": "a.png"}, {"prompt": "make it blue", "image": "b.png"}],
            "p.jsonl:2: there is no picture '{folder}/b.png'",
        ),
        (
            [QUESTION],
            "p.jsonl:1) is one of 1 questions that are answered in words, and no training reward judges their answers",
        ),
    ],
)
def test_prompts(
    rows: list[dict[str, Any]], said: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("words")
    assert said.format(folder=tmp_path) in told(tmp_path, capsys, **of_prompts(tmp_path, policy, rows))


def test_a_question_to_a_policy_that_can_not_answer_it(
    policy: Path, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No features without an understanding branch; no answer without a template for one; no picture in a prompt of
    text alone."""
    saved(tmp_path / "a.png")
    answers = tmp_path / "answers"
    with_answers(Policy.load(policy)).save(answers)
    two = {**QUESTION, "images": ["a.png", "a.png"]}
    del two["image"]
    by_features = of_prompts(tmp_path, answers, [QUESTION], rewards=ANSWERS)
    by_features["policy"]["reads"] = "features"
    assert (
        f"{answers}: this policy has no understanding branch (its image_tokenizer is of kind patch_vq, not hybrid), so "
        "questions can't read a picture's features; let them read codes (policy.reads: codes)"
    ) in told(tmp_path, capsys, **by_features)
    several = told(tmp_path, capsys, **of_prompts(tmp_path, answers, [two], rewards=ANSWERS))
    assert "p.jsonl:1) holds 2 pictures, and this policy answers about one" in several
    plain = told(tmp_path, capsys, **of_prompts(tmp_path, tiny_policy, [QUESTION], rewards=ANSWERS))
    assert "p.jsonl:1) is a question, and this policy does not answer in words (its policy.json has no" in plain


def test_a_tokenizer_of_other_codes_than_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = editing_policy(tmp_path / "policy")
    file = other / "image_tokenizer" / "config.json"
    write_json(file, {**read_json(file), "codes": 64})
    saved(tmp_path / "a.png")
    sentence = told(tmp_path, capsys, **of_prompts(tmp_path, other, [{"prompt": "make it red", "image": "a.png"}]))
    assert (
        f"{other / 'policy.json'}: codes of image_tokenizer is 64 but num_image_tokens is 128; use parts of the same "
        "model"
    ) in sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "p.jsonl:1: no column is its picture (it has caption, photo); columns: {{picture: ...}} names it"),
        (
            {"columns": {"prompt": "caption", "picture": "foto"}},
            "p.jsonl:1: there is no column 'foto', did you mean 'photo'? (it has caption, photo)",
        ),
        (
            {"columns": {"prompt": "caption", "image": "photo"}},
            "columns: there is no 'image' of an example (it has prompt, picture, pictures, answer)",
        ),
    ],
)
def test_examples_whose_columns_do_not_fit(
    options: dict[str, Any], said: str, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"caption": "a red circle", "photo": "a.png"}))
    examples = {"use": "jsonl", "options": {"path": str(tmp_path / "p.jsonl"), **options}}
    sections = {"policy": {"path": str(tiny_policy)}, "supervised": {"examples": examples}, "data": {"eval": None}}
    sentence = told(tmp_path, capsys, **sections)
    assert "supervised.examples: " in sentence and said.format() in sentence


def test_sharded_weights_and_a_decoder_that_sees_some_rows_beside_its_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to_policy(make_twin(tmp_path / "twin", editing=True), tmp_path / "policy", tell=lambda _: None)
    sections = {"policy": {"path": str(tmp_path / "policy")}, "supervised": {}, "data": {"eval": None}}
    sentence = told(tmp_path, capsys, **sections, train={"steps": 1, "zero_stage": 3})
    assert (
        f"train.zero_stage: is 3, and the decoder of '{tmp_path / 'policy'}' sees references beside its noise, so that "
        "pictures with and without one are computed apart, which sharded weights do not allow; make it 2 or less"
    ) in sentence
