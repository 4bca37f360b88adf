"""What a rank leaves behind that cannot go on: a sentence for rank 0, a traceback where nobody has foreseen it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.process.ranks import Place
from rl.ranks.follow import _last_words
from rl.types import RunFailure, UserError

PLACE = Place(rank=1, world=2)


def words(error: Exception, folder: Path | None) -> str:
    try:
        raise error
    except type(error) as raised:
        return _last_words(raised, folder, PLACE)


@pytest.mark.parametrize("kind", [UserError, RunFailure])
def test_a_foreseen_failure_is_its_sentence_alone(
    kind: type[Exception], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert words(kind("lower train.micro_batch."), tmp_path) == "lower train.micro_batch."
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


def test_another_is_one_line_and_its_traceback_a_file_of_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = words(ValueError("no such\nthing"), tmp_path)
    assert said == f"ValueError: no such (the traceback is in {tmp_path / 'rank-1.txt'})"
    assert capfd.readouterr() == ("", "")
    assert "no such\nthing" in (tmp_path / "rank-1.txt").read_text()


def test_on_a_machine_without_the_folder_it_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert words(ValueError("no"), tmp_path / "elsewhere") == "ValueError: no"
    assert "Traceback" in capfd.readouterr().err
