"""``python -m policy.edit``: a picture, an instruction, an answer; and one sentence where that can't be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from policy.base import Policy
from policy.edit.__main__ import edit, main
from rl.data.pictures import Picture
from rl.data.shapes.edits.prompts import edit_examples
from tests.policy.editing import editing_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return editing_policy(tmp_path_factory.mktemp("policy") / "edits")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    Image.fromarray(next(edit_examples("edit_add", ["rl"], 1)).before).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["policy.edit", *map(str, arguments)])
    return main()


def test_it_writes_the_answer_beside_the_picture(
    folder: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    given = (scene, "make the circle pink", "-o", out, "--policy", folder, "-n", 2, "--steps", 1, "--beside")
    assert _run(monkeypatch, *given) == 0
    shown = np.asarray(Image.open(out))
    assert shown.shape == (64, 192, 3) and (shown[:, :64] == np.asarray(Image.open(scene))).all()
    printed = capsys.readouterr()
    assert "does not know the words pink" in printed.err and f"{out}: 2 x 'make the circle pink'" in printed.out


def test_the_answer_depends_on_the_picture(folder: Path) -> None:
    policy = Policy.load(folder)
    scenes = [one.before for one in edit_examples("edit_add", ["rl"], 2)]
    answers = [edit(policy, Picture(s), "add a red ring", count=1, seed=3, steps=1, guidance=1.0) for s in scenes]
    again = edit(policy, Picture(scenes[0]), "add a red ring", count=1, seed=3, steps=1, guidance=1.0)
    assert (answers[0] == again).all() and (answers[0] != answers[1]).any()


def test_mistakes_are_one_sentence(
    folder: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("words")
    drawing = folder.with_name("drawing")
    editing_policy(drawing, extended=False)
    for arguments, words in (
        (
            (scene, "make it red", "--policy", drawing),
            f"--policy {drawing}: this policy does not edit, it draws from text alone",
        ),
        ((tmp_path / "none.png", "make it red", "--policy", folder), f"there is no picture '{tmp_path}/none.png'"),
        (
            (tmp_path / "text.png", "make it red", "--policy", folder),
            f"the picture '{tmp_path}/text.png' can't be read",
        ),
    ):
        assert _run(monkeypatch, *arguments, "-o", tmp_path / "out.png") == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
