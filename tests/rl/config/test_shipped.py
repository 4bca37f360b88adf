from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rl.config import shipped
from rl.config.load import load
from rl.launch import main
from rl.registry import SHIPPED, resolve
from rl.types import UserError

ROOT = Path(__file__).resolve().parents[3]


def test_examples_and_what_they_extend_are_found_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = load(ROOT / "examples/geneval.yaml")
    monkeypatch.chdir(tmp_path)
    assert load("examples/geneval.yaml") == here
    assert load("examples/custom_reward/bright.yaml").rewards["bright"].use == "examples.custom_reward.bright:bright"


def test_a_copied_example_still_finds_what_it_extends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "geneval.yaml"
    copy.write_text((ROOT / "examples/geneval.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert load(copy) == load("examples/geneval.yaml")
    copy.write_text("extends: [examples/geneval.yaml, configs/hardware/gpu.yaml]\n")
    assert load(copy).policy.dtype == "bfloat16"


def test_a_file_that_is_here_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("examples/geneval.yaml")
    assert shipped.find(own) == SHIPPED / own
    own.parent.mkdir()
    own.touch()
    assert shipped.find(own) == own
    assert shipped.note(own) is None


def test_only_configs_and_examples_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("geneval.yaml", "../geneval.yaml", "/examples/geneval.yaml", "examples", "configs/no.yaml"):
        assert shipped.find(Path(name)) == Path(name)


def test_a_wrong_name_is_guessed_among_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no file 'examples/genevl\.yaml', did you mean 'geneval\.yaml'\?"):
        load("examples/genevl.yaml")


def test_launch_says_where_it_was_taken_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["examples/geneval.yaml", "--dry-run"]) == 0
    said = f"examples/geneval.yaml is not here; taken from easel-rl: {SHIPPED}/examples/geneval.yaml\n"
    assert capsys.readouterr().err == said


def test_a_shipped_reward_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path).resolve() != ROOT])
    assert resolve("rewards", "examples.custom_reward.bright:bright").__name__ == "bright"
