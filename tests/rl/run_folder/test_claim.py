"""Whether a new run may begin in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.load import dump, load
from rl.config.schema import Config
from rl.run_folder import checkpoint
from rl.run_folder.claim import CONFIG_FILE, begin_new, is_free, written_by_a_run
from rl.types import UserError

GENEVAL = Path(__file__).parents[3] / "examples" / "geneval.yaml"


def config_of(folder: Path, *overrides: str) -> Config:
    return load(GENEVAL, [f"run.folder={folder}", *overrides])


def failed_start(folder: Path) -> None:
    """What a start leaves that ended before its first step was logged."""
    begin_new(config_of(folder, "train.lr=0.5"), folder)
    for name in ("environment.json", "evaluation-0.json", "evaluation-0.png", "pictures/train-000000.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of the failed start")
    (folder / "metrics.jsonl").write_text('{"step": 0, "half a line')


def test_after_a_failed_start_the_folder_is_free(tmp_path: Path) -> None:
    failed_start(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    corrected = config_of(tmp_path)
    begin_new(corrected, tmp_path)
    assert (tmp_path / CONFIG_FILE).read_text() == dump(corrected)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == [CONFIG_FILE, "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_logged_step_keeps_the_folder(tmp_path: Path) -> None:
    failed_start(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"half')
    with pytest.raises(UserError, match=r"already holds a run; pass --resume to go on with it, or give this run a"):
        begin_new(config_of(tmp_path), tmp_path)
    assert (tmp_path / "evaluation-0.json").read_text() == "of the failed start"


def test_a_checkpoint_keeps_the_folder(tmp_path: Path) -> None:
    failed_start(tmp_path)
    saved = checkpoint.save(tmp_path, 0, {}, {"version": 0}, keep=1)
    assert not is_free(tmp_path)
    saved.rename(saved.with_name(".old-step-000000"))  # a kill while it was being replaced
    assert not is_free(tmp_path)


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "report.html", "policy/ar/model.safetensors"])
def test_what_no_run_wrote_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError) as caught:
        begin_new(config_of(tmp_path), tmp_path)
    first = name.split("/")[0]
    assert f"holds {first}, which no run wrote and this one would replace; choose another folder" in str(caught.value)
    assert (tmp_path / name).read_text() == "mine"


def test_other_files_beside_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    begin_new(config_of(tmp_path), tmp_path)
    assert (tmp_path / "train.jsonl").read_text() == "{}"
    assert written_by_a_run(tmp_path / CONFIG_FILE)
    assert not written_by_a_run(GENEVAL)
