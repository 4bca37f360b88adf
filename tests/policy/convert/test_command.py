"""``python -m policy.convert``: both directions, and what is wrong with a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.convert.__main__ import main
from policy.folder import read_policy_config


def test_forth_and_back(made_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, back = tmp_path / "policy", tmp_path / "back"
    assert main(["blip3o-next", str(made_twin), str(policy)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[:-1]] == [
        "ar",
        "connector",
        "transformer",
        "vae",
        "image_tokenizer",
    ]
    assert said[-1] == f"{policy}: a policy folder; train it by policy.path={policy}"
    read_policy_config(policy)
    assert main(["--back", str(policy), "--like", str(made_twin), str(back)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{back}: a checkpoint in the form of {made_twin}"
    assert (back / "config.json").read_bytes() == (made_twin / "config.json").read_bytes()


FORTH = "error: give three words: python -m policy.convert blip3o-next SOURCE OUT\n"
BACK = "error: give both folders: python -m policy.convert --back POLICY --like SOURCE OUT\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["blip3o-next", "a"], FORTH),
        (["--back", "a", "out"], BACK),
        (["--back", "a", "--like", "b", "c", "out"], BACK),
        (
            ["blip3o", "a", "out"],
            "error: there is no format 'blip3o', did you mean 'blip3o-next'? (known: blip3o-next)\n",
        ),
        (
            ["blip3o-next", "nowhere", "out"],
            "error: SOURCE: there is no folder 'nowhere', nor is it owner/name on the Hugging Face hub.\n",
        ),
        (
            ["--back", "a", "--like", "/nowhere/b", "out"],
            "error: --like: there is no folder '/nowhere/b', nor is it owner/name on the Hugging Face hub.\n",
        ),
        (
            ["blip3o-next", "a", "out", "--parts", "gone"],
            "error: --parts gone: there is no such folder; name the one with transformer/config.json in it.\n",
        ),
    ],
)
def test_a_wrong_command_line_is_one_sentence(typed: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed) == 2
    assert capsys.readouterr().err == said


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out := tmp_path / "out").mkdir()
    (out / "mine.txt").touch()
    for typed in (["blip3o-next", "nowhere", str(out)], ["--back", "nowhere", "--like", "nowhere", str(out)]):
        assert main(typed) == 2
        assert capsys.readouterr().err == f"error: {out} exists and is not empty; name a new folder.\n"
