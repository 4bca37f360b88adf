"""A folder of edited pictures against the pictures that were to be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rewards.score.__main__ import main
from rl.data.shapes.edits.prompts import edit_examples, edit_prompts


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """Of three moves: one done, one copied, and one with everything gone."""
    (tmp_path / "answers").mkdir()
    (tmp_path / "before").mkdir()
    lines = []
    examples = list(edit_examples("edit_move", ["heldout"], 3))
    answers = [examples[0].after, examples[1].before, examples[2].before * 0 + 240]
    for prompt, one, answer in zip(edit_prompts("edit_move", ["heldout"], 3), examples, answers, strict=True):
        Image.fromarray(answer).save(tmp_path / "answers" / f"{prompt.id}.png")
        Image.fromarray(one.before).save(tmp_path / "before" / f"{prompt.id}.png")
        row = {"id": prompt.id, "prompt": prompt.text, "image": f"before/{prompt.id}.png", **prompt.metadata}
        lines.append(json.dumps(row))
    (tmp_path / "edits.jsonl").write_text("\n".join(lines))
    return tmp_path


def _score(edited: Path, *arguments: str) -> int:
    return main([*arguments, str(edited / "answers"), "--out", str(edited / "scores.jsonl")])


def test_by_what_was_done_and_what_was_kept(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _score(edited, "--reward", "edit", "--prompts", str(edited / "edits.jsonl")) == 0
    assert [row["value"] for row in _rows(edited / "scores.jsonl")] == [1.0, 0.0, 0.0]
    details = [row["details"] for row in _rows(edited / "scores.jsonl")]
    assert [(one["copied"], one["redrawn"]) for one in details] == [(False, False), (True, False), (False, True)]
    assert "passed 33.3 % of 3" in capsys.readouterr().out


def test_by_likeness_outside_of_what_may_change(edited: Path) -> None:
    options = ("--option", "reference=picture", "--option", "outside=edit")
    assert _score(edited, "--reward", "similarity", *options, "--prompts", str(edited / "edits.jsonl")) == 0
    values = [row["value"] for row in _rows(edited / "scores.jsonl")]
    assert values[:2] == [1.0, 1.0] and values[2] < 0.99


def test_prompts_may_be_a_source_with_options(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ("--prompts", "shapes", "--prompts-option", "tags=[edit_move]", "--prompts-option", "split=heldout")
    assert _score(edited, "--reward", "edit", *source, "--prompts-option", "per_task=3") == 0
    assert [row["value"] for row in _rows(edited / "scores.jsonl")] == [1.0, 0.0, 0.0]
    for wrong, words in (
        (("--prompts", "shapes", "--prompts-option", "split=best"), "--prompts: shapes world: unknown split 'best'"),
        (
            ("--prompts", str(edited / "edits.jsonl"), "--prompts-option", "split=rl"),
            "is a file, which takes no options",
        ),
    ):
        assert _score(edited, "--reward", "edit", *wrong) == 2
        assert words in capsys.readouterr().err


def test_a_line_whose_picture_cannot_be_read_is_named(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((edited / "before").glob("*0001.png")).write_text("no picture")
    assert _score(edited, "--reward", "edit", "--prompts", str(edited / "edits.jsonl")) == 2
    assert (
        f"{edited / 'edits.jsonl'}:2: the picture '{edited / 'before'}/heldout-edit_move-0001.png' can't be read"
        in (capsys.readouterr().err)
    )
