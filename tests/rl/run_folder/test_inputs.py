"""What a run reads beside its configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rl.config.schema import Config
from rl.data.pictures import Picture
from rl.run_folder import inputs
from rl.run_folder.inputs import INPUTS_FILE, Inputs, compare_inputs, fingerprints, record_inputs
from rl.types import Prompt, UserError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    (tmp_path / "p" / "ar").mkdir(parents=True)
    (tmp_path / "p" / "ar" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "p" / "policy.json").write_text("{}")
    (tmp_path / "own_code_of_a_run.py").write_text("def bright(samples): return [1.0] * len(samples)\n")
    monkeypatch.syspath_prepend(tmp_path)
    rewards = {"b": {"use": "own_code_of_a_run:bright"}, "o": {"use": "ocr"}}
    return Config.model_validate({"policy": {"path": str(tmp_path / "p")}, "rewards": rewards})


def prompts(*texts: str, **metadata: object) -> dict[str, list[Prompt]]:
    return {"data.train": [Prompt(text, text, metadata, source=f"{text}:1") for text in texts], "data.eval": []}


def test_the_same_is_the_same_wherever_it_lies(config: Config, tmp_path: Path) -> None:
    record_inputs(tmp_path, fingerprints(config, prompts("a", "b")))
    shutil.copytree(tmp_path / "p", tmp_path / "moved")
    moved = config.model_copy(update={"policy": config.policy.model_copy(update={"path": str(tmp_path / "moved")})})
    assert compare_inputs(tmp_path, fingerprints(moved, prompts("a", "b"))) == []
    assert str(tmp_path) not in (tmp_path / INPUTS_FILE).read_text()


@pytest.mark.parametrize("now", [prompts("a"), prompts("b", "a"), prompts("a", "c"), prompts("a", "b", tag="x")])
def test_other_prompts_are_refused(config: Config, tmp_path: Path, now: dict[str, list[Prompt]]) -> None:
    record_inputs(tmp_path, fingerprints(config, prompts("a", "b")))
    with pytest.raises(UserError) as caught:
        compare_inputs(tmp_path, fingerprints(config, now))
    assert "data.train: its prompts have changed since this run began (was 2 with digest" in str(caught.value)
    assert f"(to go on all the same, remove {tmp_path / INPUTS_FILE})" in str(caught.value)


def test_without_the_record_a_run_goes_on_and_has_one_again(config: Config, tmp_path: Path) -> None:
    assert compare_inputs(tmp_path, fingerprints(config, prompts("a"))) == []
    with pytest.raises(UserError, match="its prompts have changed"):
        compare_inputs(tmp_path, fingerprints(config, prompts("b")))


def test_other_weights_are_refused(config: Config, tmp_path: Path) -> None:
    record_inputs(tmp_path, fingerprints(config, prompts("a")))
    (tmp_path / "p" / "ar" / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(UserError, match=r"policy.path: ar/model.safetensors has changed since this run began: put it"):
        compare_inputs(tmp_path, fingerprints(config, prompts("a")))
    (tmp_path / "p" / "policy.json").unlink()
    with pytest.raises(UserError, match=r"ar/model.safetensors and 1 more files have changed"):
        compare_inputs(tmp_path, fingerprints(config, prompts("a")))


def test_other_code_is_said(config: Config, tmp_path: Path) -> None:
    record_inputs(tmp_path, fingerprints(config, prompts("a")))
    (tmp_path / "own_code_of_a_run.py").write_text("def bright(samples): return [0.5] * len(samples)\n")
    assert compare_inputs(tmp_path, fingerprints(config, prompts("a"))) == [
        "note: the code of rewards.b (own_code_of_a_run.py) has changed since this run began; what it computes may, too"
    ]


def test_pictures_and_arrays_of_prompts_count(config: Config) -> None:
    def found(value: int) -> Inputs:
        picture = np.full((2, 2, 3), value, np.uint8)
        return fingerprints(config, {"data.train": [Prompt("a", "a", {"x": np.ones(2)}, (Picture(picture),))]})

    assert found(1) == found(1) != found(2)


def test_large_files_are_looked_at_in_places(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_WHOLE", 1000)
    monkeypatch.setattr(inputs, "_BLOCK", 100)
    file = tmp_path / "p" / "ar" / "model.safetensors"
    file.write_bytes(bytes(5000))
    before = fingerprints(config, {})["policy"]
    file.write_bytes(bytes(4999) + b"1")
    assert fingerprints(config, {})["policy"] != before
