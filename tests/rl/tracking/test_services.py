"""The trackers behind ``tracking.to``: TensorBoard for real, the others as fakes under their own names."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rl.config.load import dump, load
from rl.config.schema import TrackingConfig
from rl.tracking.login import missing_login
from rl.tracking.services import RunIdentity, TrackerServices, check_trackers
from rl.tracking.tracker import Tracker
from rl.types import UserError

RED = Image.new("RGB", (8, 4), "red")
CONFIGURATION = {"train": {"lr": 0.1}, "rewards": {"a": {"use": "x", "options": {}}}}


class _Settings(dict[str, object]):
    def __init__(self, told: Callable[[dict[str, object]], None]) -> None:
        super().__init__()
        self._told = told

    def update(self, values: dict[str, object], allow_val_change: bool) -> None:  # type: ignore[override]
        self._told(values)


class _Package(ModuleType):
    """A tracker's package: what was asked of it, in order; ``broken`` makes every further call fail."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []
        self.broken = False
        self.config = _Settings(lambda values: self._note("config", values))
        self.Image = lambda picture: ("picture", picture.size)

    def _note(self, what: str, given: Any) -> None:
        self.calls.append((what, given))
        if self.broken:
            raise ConnectionError("the network is gone\nfor now")

    def init(self, **given: Any) -> SimpleNamespace:
        self._note("init", given)
        return SimpleNamespace(
            url="https://example.org/run",
            log=lambda values, step=None: self._note("log", (step, values)),
            finish=lambda: self._note("finish", None),
        )

    def asked(self, what: str) -> list[Any]:
        return [given for name, given in self.calls if name == what]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> _Package:
    found = _Package(request.param)
    monkeypatch.setitem(sys.modules, request.param, found)
    return found


def identity(folder: Path, resume_step: int | None = None) -> RunIdentity:
    return RunIdentity(folder, "project", "run", "group", ["one", "two"], resume_step, CONFIGURATION)


def test_tensorboard_holds_everything_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def run(steps: range, resume_step: int | None, offset: float) -> None:
        config = TrackingConfig(console="off")
        with Tracker(tmp_path, config, 10, resume_step, CONFIGURATION) as tracker:
            if resume_step is None:
                RED.save(tmp_path / "grid.png")
                tracker.evaluated(0, {"eval/a/overall": 0.5}, tmp_path / "grid.png")
            for step in steps:
                tracker.pictures(step, "train", np.zeros((1, 8, 8, 3), np.uint8), ["a"])
                tracker.workers({"cluster/busy/paint": step / 10})
                tracker.log(step, {"score": step + offset, "eval/a/overall": 0.75}, {"sample": 2.0})

    run(range(4), None, 0.0)  # killed after four steps, with a checkpoint after two
    run(range(2, 4), 2, 0.5)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("score")] == [(1, 0.0), (2, 1.0), (3, 2.5), (4, 3.5)]
    assert [(one.step, one.value) for one in events.Scalars("eval/a/overall")] == [(0, 0.5)]  # with its evaluation only
    assert events.Scalars("seconds/sample")[0].value == 2.0
    assert [one.step for one in events.Scalars("cluster/busy/paint")] == [1, 2, 3, 4]
    assert "cluster" not in (tmp_path / "metrics.jsonl").read_text()  # where everything can be repeated
    assert [one.step for one in events.Images("evaluation")] == [0]
    assert events.Images("train")[0].step == 1
    assert b'"lr": 0.1' in events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[3])["step"] == 3  # counted from 0, there


@pytest.mark.parametrize("package", ["wandb", "swanlab"], indirect=True)
def test_a_run_goes_on_under_its_own_id(tmp_path: Path, package: _Package) -> None:
    told: list[str] = []
    services = TrackerServices([package.__name__], identity(tmp_path), told.append)
    services.picture("train", RED, 1)
    services.log({"score": 0.5}, 1)
    services.finish()
    TrackerServices([package.__name__], identity(tmp_path, resume_step=1), told.append).finish()
    TrackerServices([package.__name__], identity(tmp_path), told.append).finish()
    first, resumed, other = package.asked("init")
    assert (first["project"], first["name"], first["group"], first["tags"]) == (
        "project",
        "run",
        "group",
        ["one", "two"],
    )
    assert first["id"] == resumed["id"] != other["id"]
    assert first["resume"] == resumed["resume"] == "allow"
    assert package.asked("config")[0] == CONFIGURATION
    assert package.asked("log") == [(1, {"train": [("picture", (8, 4))]}), (1, {"score": 0.5})]
    assert package.calls[-1] == ("finish", None)
    assert told[:1] == (["wandb: https://example.org/run"] if package.__name__ == "wandb" else [])


@pytest.mark.parametrize("package", ["trackio"], indirect=True)
def test_trackio_goes_on_under_its_name(tmp_path: Path, package: _Package) -> None:
    for resume_step in (None, 1):
        services = TrackerServices(["trackio"], identity(tmp_path, resume_step), print)
        services.picture("train", RED, 1)
        services.finish()
    first, resumed = package.asked("init")
    assert (first["name"], first["resume"], first["group"]) == ("run", "never", "group")
    assert (resumed["name"], resumed["resume"]) == ("run", "allow")
    assert first["config"] == {**CONFIGURATION, "tags": ["one", "two"]}
    assert package.asked("log")[0] == (1, {"train": ("picture", (8, 4))})


@pytest.mark.parametrize("package", ["wandb"], indirect=True)
def test_a_tracker_that_fails_midway_is_told_once_and_ends_nothing(
    tmp_path: Path, package: _Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("rl.tracking.services.time", SimpleNamespace(monotonic=lambda: now))
    told: list[str] = []
    services = TrackerServices(["tensorboard", "wandb"], identity(tmp_path), told.append)
    package.broken = True
    for step in range(3):
        services.log({"score": 0.5}, step)
    assert len(package.asked("log")) == 1  # it is not waited for at every step
    now = 61.0
    services.log({"score": 0.5}, 3)
    assert len(package.asked("log")) == 2
    services.finish()
    assert told[1:] == [
        "tracking: wandb failed (ConnectionError: the network is gone); the run goes on, and metrics.jsonl has all "
        "numbers"
    ]


@pytest.mark.parametrize("package", ["wandb"], indirect=True)
def test_a_tracker_that_cannot_start_is_one_sentence(tmp_path: Path, package: _Package) -> None:
    package.broken = True
    config = TrackingConfig(console="off", to=("tensorboard", "wandb"))
    with pytest.raises(UserError) as error:
        Tracker(tmp_path, config, 10)
    assert str(error.value) == (
        "tracking.to: wandb could not be started (ConnectionError: the network is gone); mend that, or leave it out "
        "(tracking.wandb=false)."
    )


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.tracking.services.find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        check_trackers(TrackingConfig(to=("mlflow",)))
    assert str(error.value) == (
        "tracking.to: mlflow is not installed: pip install mlflow, or leave it out (tracking.mlflow=false)."
    )
    check_trackers(TrackingConfig(to=()))


def test_a_key_is_looked_for_where_login_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("rl.tracking.services.find_spec", lambda name: object())
    with pytest.raises(
        UserError, match=r"tracking.to: wandb is not logged in: type `wandb login`, or set WANDB_API_KEY"
    ):
        check_trackers(TrackingConfig(to=("wandb",)))
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password key\n")
    assert missing_login("wandb") is None
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert missing_login("wandb") is not None  # a key for another server
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert missing_login("wandb") is missing_login("trackio") is None


CASES = [
    ([], ("tensorboard",)),
    (["tracking.wandb=true"], ("tensorboard", "wandb")),
    (["tracking.tensorboard=off"], ()),
    (["tracking.to=[mlflow, wandb, mlflow]", "tracking.mlflow=false"], ("wandb",)),
    (["tracking.to=trackio"], ("trackio",)),
    (["tracking.to=null"], ()),
]


@pytest.mark.parametrize(("overrides", "trackers"), CASES)
def test_trackers_can_be_written_in_short(tmp_path: Path, overrides: list[str], trackers: tuple[str, ...]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("rewards: {a: geneval}\n")
    config = load(path, overrides)
    assert config.tracking.to == trackers
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml").tracking == config.tracking


def test_a_tracker_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("rewards: {a: geneval}\n")
    with pytest.raises(
        UserError, match=r"tracking.to\[0\]: must be 'tensorboard' or .* got 'wandbb' \(text\), did you"
    ):
        load(path, ["tracking.to=[wandbb]"])
