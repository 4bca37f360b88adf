from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rl.config.schema import TrackingConfig
from rl.run_folder.environment import describe_environment, record_environment
from rl.run_folder.records import METRICS_FILE, Alarm, read_metrics
from rl.tracking.grid import make_grid
from rl.tracking.tracker import Tracker
from rl.types import UserError

QUIET = TrackingConfig(console="off", to=())
ALARM = Alarm("guard/darkness", 1, 0.1, 0.5, "darkness rose from 0.1 to 0.5")


def write_steps(folder: Path, steps: Sequence[int], resume_step: int | None = None) -> None:
    with Tracker(folder, QUIET, 10, resume_step) as tracker:
        for step in steps:
            tracker.log(step, {"score": step / 3}, {"sample": 0.5}, [ALARM] if step == 1 else [])


def test_a_step_is_one_line_with_times_apart(tmp_path: Path) -> None:
    with Tracker(tmp_path, QUIET, 10) as tracker:
        tracker.log(0, {"score": 0.1, "kl": float("nan")}, {"sample": 1.25})
        # flushed at once, not at the end
        line = json.loads((tmp_path / METRICS_FILE).read_text())
        assert 0.1 < line.pop("memory")["peak_gb"] < 100
        assert line == {
            "step": 0,
            "metrics": {"score": 0.1, "kl": None},
            "seconds": {"sample": 1.25},
            "alarms": [],
        }


def test_metrics_survive_the_file_bit_for_bit(tmp_path: Path) -> None:
    values = {f"m{i}": float(value) for i, value in enumerate(np.random.default_rng(0).standard_normal(50))}
    with Tracker(tmp_path, QUIET, 10) as tracker:
        tracker.log(0, values, {})
    assert read_metrics(tmp_path)[0].metrics == values


def test_resume_drops_later_steps_and_half_a_line(tmp_path: Path) -> None:
    write_steps(tmp_path, range(4))
    whole = (tmp_path / METRICS_FILE).read_text()
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 4, "metr')  # killed in the middle of a write
    assert [row.step for row in read_metrics(tmp_path)] == [0, 1, 2, 3]
    write_steps(tmp_path, [2, 3], resume_step=2)
    assert (tmp_path / METRICS_FILE).read_text() == whole
    assert read_metrics(tmp_path)[1].alarms == [ALARM]


def test_a_resume_takes_no_row_away_before_its_first_one(tmp_path: Path) -> None:
    write_steps(tmp_path, range(4))
    whole = (tmp_path / METRICS_FILE).read_text()
    write_steps(tmp_path, [], resume_step=0)  # it ended while it loaded
    assert (tmp_path / METRICS_FILE).read_text() == whole
    with Tracker(tmp_path, QUIET, 10, resume_step=2) as tracker:
        assert (tmp_path / METRICS_FILE).read_text() == whole
        tracker.log(2, {"score": 0.5}, {})
        assert [row.step for row in read_metrics(tmp_path)] == [0, 1, 2]  # at one blow


def test_a_resume_with_nothing_left_to_do_keeps_no_row_of_later_steps(tmp_path: Path) -> None:
    write_steps(tmp_path, range(4))
    with Tracker(tmp_path, QUIET, 2, resume_step=2) as tracker:
        tracker.settle()
    assert [row.step for row in read_metrics(tmp_path)] == [0, 1]


def test_a_new_run_refuses_a_used_folder(tmp_path: Path) -> None:
    write_steps(tmp_path, [0])
    with pytest.raises(UserError, match=r"already holds the metrics of another run: choose another run.folder"):
        Tracker(tmp_path, QUIET, 10)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 0}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl:1 is not a metrics line"):
        read_metrics(tmp_path)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / METRICS_FILE).symlink_to(full)
    tracker = Tracker(tmp_path, QUIET, 10)
    with pytest.raises(
        UserError, match=r"the disk is full: cannot write .*metrics.jsonl \(logging step 4\); free some"
    ):
        tracker.log(3, {"score": 0.1}, {})
    with pytest.raises(UserError, match=r"the disk is full: .* \(closing the log\)"):  # no bare OSError on the way out
        tracker.close()


def test_whatever_the_file_system_answers_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"no permission to write: cannot write .*metrics.jsonl \(opening the log\)"):
        Tracker(tmp_path, QUIET, 10)


def test_pictures_are_a_captioned_grid_with_verdicts(tmp_path: Path) -> None:
    with Tracker(tmp_path, QUIET, 10) as tracker:
        verdicts = [{"prompt": "a", "ocr": {"value": 0.5, "details": {"read": "CAR"}}}, {"prompt": "b"}]
        path = tracker.pictures(0, "train", np.zeros((3, 64, 64, 3), np.uint8), ["a", "b", "c"], verdicts)
    assert path == tmp_path / "pictures" / "train-000000.png"
    assert Image.open(path).size[0] > 3 * 128
    assert [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()] == verdicts


def test_grid_tiles_can_be_cut_out_exactly() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    grid = make_grid(
        pictures, ["one", "two words", "a caption that is much too long to fit in three lines " * 3, "", "e"]
    )
    for picture, box in zip(pictures, grid.boxes, strict=True):
        tile = np.asarray(grid.sheet.crop(box).resize((64, 64), Image.Resampling.NEAREST))
        assert (tile == picture).all()
    with pytest.raises(ValueError, match="5 pictures but 1 captions"):
        make_grid(pictures, ["one"])


def test_environment_keeps_every_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_environment(tmp_path, ["python", "-m", "rl.launch", "a b.yaml"])
    record_environment(tmp_path, ["resume"])
    sessions = json.loads((tmp_path / "environment.json").read_text())["sessions"]
    assert [session["command"] for session in sessions] == ["python -m rl.launch 'a b.yaml'", "resume"]
    assert sessions[0]["versions"]["numpy"] == np.__version__

    def no_git(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("git")

    monkeypatch.setattr("rl.run_folder.environment.subprocess.run", no_git)
    assert describe_environment(["x"])["git"] is None
