from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console as RichConsole

from rl.config.schema import TrackingConfig
from rl.run_folder.environment import describe_environment, record_environment
from rl.run_folder.records import METRICS_FILE, Alarm, read_metrics
from rl.tracking.console import Clock, Console, LiveConsole, PlainConsole, duration, make_console, sparkline
from rl.tracking.grid import make_grid
from rl.tracking.tracker import Tracker
from rl.types import UserError

QUIET = TrackingConfig(console="off", tensorboard=False)
ALARM = Alarm("guard/darkness", 1, 0.1, 0.5, "darkness rose from 0.1 to 0.5")


def write_steps(folder: Path, steps: Sequence[int], resume_step: int | None = None) -> None:
    with Tracker(folder, QUIET, 10, resume_step) as tracker:
        for step in steps:
            tracker.log(step, {"score": step / 3}, {"sample": 0.5}, [ALARM] if step == 1 else [])


def test_a_step_is_one_line_with_times_apart(tmp_path: Path) -> None:
    with Tracker(tmp_path, QUIET, 10) as tracker:
        tracker.log(0, {"score": 0.1, "kl": float("nan")}, {"sample": 1.25})
        # flushed at once, not at the end
        assert json.loads((tmp_path / METRICS_FILE).read_text()) == {
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
        UserError, match=r"the disk is full: cannot write .*metrics.jsonl \(logging step 3\); free some"
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


def test_tensorboard_events_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Tracker(tmp_path, QUIET.model_copy(update={"tensorboard": True}), 10) as tracker:
        tracker.log(0, {"score": 0.25}, {"sample": 2.0})
        verdicts = [{"prompt": "a", "ocr": {"value": 0.5, "details": {"read": "CAR"}}}, {"prompt": "b"}]
        path = tracker.pictures(0, "train", np.zeros((3, 64, 64, 3), np.uint8), ["a", "b", "c"], verdicts)
    assert path == tmp_path / "pictures" / "train-000000.png"
    assert Image.open(path).size[0] > 3 * 128
    assert [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()] == verdicts
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("score")[0].value == 0.25
    assert events.Scalars("seconds/sample")[0].value == 2.0
    assert events.Images("train")[0].step == 0


def test_wandb_must_be_installed_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"tracking.wandb is true but wandb is not installed: pip install wandb"):
        Tracker(tmp_path, QUIET.model_copy(update={"wandb": True}), 10)


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


def test_plain_line() -> None:
    lines: list[str] = []
    console = PlainConsole(10, 0, lines.append)
    metrics = {"score": 0.5, "reward/geneval": 0.5, "kl": 0.001, "zero_std_fraction": 0.25, "images": 128, "x": 1.0}
    console.step(0, metrics, {"sample": 1.0, "total": 4.0}, [ALARM])
    assert lines[0].startswith(
        "step 1/10  score 0.500  geneval 0.500  kl 0.001  zero-std 0.25  4.0 s  32.0 images/s  ETA"
    )
    console.step(1, {"score": 0.5, "failed/ocr": 3.0, "failed_fraction": 0.1}, {"total": 4.0}, [])
    assert lines[2].startswith("step 2/10  score 0.500  ocr FAILED 3  failed 0.1  4.0 s")
    assert lines[1] == "ALARM  darkness rose from 0.1 to 0.5"


def test_live_view_shows_everything_asked_for() -> None:
    with Path("/dev/null").open("w") as sink:
        live = LiveConsole("my [run]", 10, terminal=RichConsole(file=sink, force_terminal=True))
        metrics = {"score": 0.5, "reward/ocr": 0.25, "kl": 0.001, "entropy": 2.5, "mismatch": 3e-6, "images": 64.0}
        metrics["failed/ocr"] = 5.0
        live.step(0, metrics, {"sample": 3.0, "update": 1.0}, [ALARM])
        live.close()
    terminal = RichConsole(width=120, file=None, record=True)
    with terminal.capture() as capture:
        terminal.print(live.view())
    shown = capture.get()
    for text in (
        "my [run]",
        "step 1/10",
        "ocr",
        "0.250",
        "ocr failed",
        "entropy",
        "mismatch",
        "3e-06",
        "16.0 images/s",
        "3.00 s",
        "!",
    ):
        assert text in shown
    bars = {name: line.count("█") for line in shown.splitlines() for name in ("sample", "update") if name in line}
    assert bars == {"sample": 24, "update": 8}


def test_eta_counts_only_this_session() -> None:
    times = iter([2.0, 4.0])
    clock = Clock(10, first_step=5, now=lambda: next(times))
    assert (clock.eta(), clock.done) == ("--", 5)
    clock.tick(5)
    assert (clock.eta(), clock.done) == ("--", 6)  # the start-up before it would count as a step's time
    clock.tick(6)
    assert clock.seconds_per_step() == 2.0
    assert clock.eta() == "6 s"


def test_small_formats() -> None:
    assert [duration(s) for s in (5.2, 185, 7620)] == ["5 s", "3 min 05 s", "2 h 07 min"]
    assert sparkline([0, 1, 0.5]) == "▁█▄"
    assert sparkline([2, 2]) == "▄▄"
    assert sparkline([]) == ""


def test_console_modes() -> None:
    assert type(make_console("off", "t", 1)) is Console
    assert isinstance(make_console("plain", "t", 1), PlainConsole)
    assert isinstance(make_console("auto", "t", 1), PlainConsole)  # pytest's stdout is not a terminal


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
