"""Checkpoints: atomic, verified, pruned; the exported policy loads."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rl.run_folder import checkpoint, random_state
from rl.types import UserError


def writer(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "data.txt").write_text(text) and None


def save(run: Path, step: int, text: str = "hello", keep: int = 2) -> Path:
    return checkpoint.save(run, step, {"trainer": writer(text)}, {"version": step}, keep)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_latest_gives_back_what_was_saved(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    save(tmp_path, 5, "five")
    save(tmp_path, 10, "ten")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.step, found.state) == (10, {"version": 10})
    assert (found.folder / "trainer" / "data.txt").read_text() == "ten"


def test_what_a_resume_will_do_is_told_as_it_is(tmp_path: Path) -> None:
    assert checkpoint.way_on(tmp_path) == "there is no checkpoint yet, so --resume starts from the beginning"
    save(tmp_path, 5)
    assert checkpoint.way_on(tmp_path) == "--resume goes on from the last checkpoint"
    assert checkpoint.found(tmp_path, 5) and not checkpoint.found(tmp_path, 4)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100, 1000000):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-000100", "step-1000000"]


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5, "old")
    save(tmp_path, 5, "new")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.folder / "trainer" / "data.txt").read_text() == "new"
    assert names(tmp_path) == ["step-000005"]


def test_leftovers_of_a_killed_write_are_ignored_and_cleaned(tmp_path: Path) -> None:
    save(tmp_path, 5)
    killed = tmp_path / "checkpoints" / ".tmp-step-000010" / "trainer"
    killed.mkdir(parents=True)
    (killed / "half.pt").write_text("ha")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5
    save(tmp_path, 10)
    assert names(tmp_path) == ["step-000005", "step-000010"]
    assert not (tmp_path / "checkpoints" / "step-000010" / "trainer" / "half.pt").exists()


def test_a_kill_while_replacing_loses_nothing(tmp_path: Path) -> None:
    folder = save(tmp_path, 5)
    folder.rename(folder.with_name(".old-step-000005"))
    checkpoint.clean(tmp_path)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5


@pytest.mark.parametrize(
    ("damage", "word"), [("flip", "damaged"), ("remove", "missing"), ("manifest", "manifest.json")]
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 5)
    folder = save(tmp_path, 10)
    data = folder / "trainer" / "data.txt"
    if damage == "flip":
        data.write_text("hellp")
    elif damage == "remove":
        data.unlink()
    else:
        (folder / "manifest.json").write_text("{")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5
    assert "step-000010" in caplog.text
    assert word in caplog.text


def test_all_damaged_is_a_clear_error(tmp_path: Path) -> None:
    (save(tmp_path, 5) / "trainer" / "data.txt").unlink()
    with pytest.raises(
        UserError, match=r"step-000005: trainer/data.txt is missing, and no earlier checkpoint is intact"
    ):
        checkpoint.latest(tmp_path)


def fill_by_file(folder: Path) -> None:
    (folder / "begun.txt").write_text("x")
    with open("/dev/full", "w") as disk:  # a real ENOSPC
        disk.write("x")


def fill_by_torch(folder: Path) -> None:
    torch.save(torch.zeros(100_000), "/dev/full")


def fill_by_safetensors(folder: Path) -> None:
    """By a limit, for it writes beside the file and renames: /dev/full would be replaced."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        save_file({"weight": torch.zeros(100_000)}, folder / "state.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (fill_by_file, "the disk is full"),
        (fill_by_torch, "torch could not write its file, as on a full disk"),
        (fill_by_safetensors, "the file would be larger than this shell or file system allows"),
    ],
)
def test_a_full_disk_is_one_sentence_and_keeps_the_previous_checkpoint(
    tmp_path: Path, fill: Callable[[Path], None], reason: str
) -> None:
    save(tmp_path, 5)
    with pytest.raises(UserError) as caught:
        checkpoint.save(tmp_path, 10, {"trainer": fill}, {}, keep=1)
    assert f"{tmp_path}/checkpoints: {reason} while saving step 10" in str(caught.value)
    assert "resume later from step-000005" in str(caught.value)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5
    assert names(tmp_path) == ["step-000005"]


def test_a_programming_error_is_not_called_a_full_disk(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        checkpoint.save(tmp_path, 1, {"trainer": broken}, {}, keep=1)


def test_random_numbers_continue(tmp_path: Path) -> None:
    draw = lambda: (random.gauss(0, 1), np.random.randn(3).tolist(), torch.randn(3).tolist())  # noqa: E731
    draw()
    checkpoint.save(tmp_path, 1, {}, {"rng": random_state.rng_state()}, keep=1)
    expected = [draw() for _ in range(3)]
    found = checkpoint.latest(tmp_path)
    assert found is not None
    random_state.restore_rng(found.state["rng"])
    assert [draw() for _ in range(3)] == expected
