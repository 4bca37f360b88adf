"""Experiment trackers beside metrics.jsonl, each through its class in ``accelerate.tracking``.

A tracker that is missing is refused before anything is loaded; one that fails later is told once and never ends a run.
Steps are counted from 1, so that 0 is the base.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl.config.schema import TrackingConfig
from rl.run_folder.records import write_atomically
from rl.tracking.login import missing_login
from rl.types import UserError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker
    from PIL.Image import Image

TENSORBOARD_FOLDER, IDS_FILE = "tensorboard", "trackers.json"
_RETRY_S = 60.0


@dataclass(frozen=True)
class RunIdentity:
    """What a run is called wherever it is tracked."""

    folder: Path
    project: str
    name: str
    group: str | None
    tags: Sequence[str]
    resume_step: int | None
    """Steps done already; ``None`` for a new run."""
    configuration: Mapping[str, object] = field(default_factory=dict)
    """Resolved, as plain data."""


class TrackerService(ABC):
    """A run at one tracker. ``run_id`` is its own name for the run, by which it goes on after a resume."""

    name: str

    def __init__(self, identity: RunIdentity, run_id: str | None) -> None:
        self.identity, self.run_id = identity, run_id

    @abstractmethod
    def open(self) -> GeneralTracker:
        """accelerate's tracker, not yet started."""

    def picture(self, name: str, picture: Image, step: int) -> None:
        self.tracker.log_images({name: [picture]}, step=step)

    def start(self) -> None:
        from accelerate import PartialState

        PartialState(cpu=True)  # accelerate's trackers ask it who logs: this process, alone
        self.tracker = self.open()
        self.tracker.start()
        self.configure()

    def configure(self) -> None:
        """The resolved configuration, once."""
        self.tracker.store_init_configuration(dict(self.identity.configuration))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.tracker.log(dict(numbers), step=step)

    def finish(self) -> None:
        self.tracker.finish()

    @property
    def address(self) -> str | None:
        """Where to look at the run, if there is a page."""
        return None


class TensorBoardService(TrackerService):
    """Event files in ``RUN/tensorboard``; after a resume they go on behind the last step that counts."""

    name = "tensorboard"

    def open(self) -> GeneralTracker:
        from accelerate.tracking import TensorBoardTracker

        done = self.identity.resume_step
        purge = None if done is None else done + 1
        return TensorBoardTracker("", self.identity.folder / TENSORBOARD_FOLDER, purge_step=purge)

    def configure(self) -> None:
        # as text: accelerate would start a run of its own for hyperparameters, which need metrics to be compared by
        shown = json.dumps(self.identity.configuration, indent=2)
        self.tracker.tracker.add_text("configuration", "".join(f"    {line}\n" for line in shown.split("\n")), 0)

    def picture(self, name: str, picture: Image, step: int) -> None:
        self.tracker.log_images({name: np.asarray(picture)[None]}, step=step, dataformats="NHWC")


class WandbService(TrackerService):
    """Weights & Biases; its own files lie in ``RUN/wandb``."""

    name = "wandb"

    def open(self) -> GeneralTracker:
        from accelerate.tracking import WandBTracker

        one = self.identity
        self.run_id = self.run_id or secrets.token_hex(4)
        return WandBTracker(
            one.project,
            dir=str(one.folder),
            name=one.name,
            group=one.group,
            tags=list(one.tags),
            id=self.run_id,
            resume="allow",
        )

    @property
    def address(self) -> str | None:
        found: str | None = self.tracker.tracker.url
        return found


class SwanlabService(TrackerService):
    """SwanLab; its own files lie in ``RUN/swanlab``."""

    name = "swanlab"

    def open(self) -> GeneralTracker:
        from accelerate.tracking import SwanLabTracker

        one = self.identity
        self.run_id = self.run_id or secrets.token_hex(10)
        return SwanLabTracker(
            one.project,
            log_dir=str(one.folder / "swanlab"),
            name=one.name,
            group=one.group,
            tags=list(one.tags),
            id=self.run_id,
            resume="allow",
        )


class TrackioService(TrackerService):
    """Trackio: runs are known by their names, and have no tags."""

    name = "trackio"

    def open(self) -> GeneralTracker:
        from accelerate.tracking import TrackioTracker

        one = self.identity
        going_on = one.resume_step is not None
        self.run_id = (self.run_id if going_on else None) or one.name
        config = {**one.configuration, "tags": list(one.tags)} if one.tags else dict(one.configuration)
        return TrackioTracker(
            one.project, name=self.run_id, group=one.group, config=config, resume="allow" if going_on else "never"
        )

    def configure(self) -> None:
        """Given when it is opened."""

    def picture(self, name: str, picture: Image, step: int) -> None:
        trackio = importlib.import_module("trackio")
        self.tracker.log({name: trackio.Image(picture)}, step=step)


class MlflowService(TrackerService):
    """MLflow at ``MLFLOW_TRACKING_URI``; the project is its experiment, the group a tag."""

    name = "mlflow"

    def open(self) -> GeneralTracker:
        from accelerate.tracking import MLflowTracker

        for name, value in _MLFLOW_PATIENCE.items():
            os.environ.setdefault(name, value)
        one = self.identity
        tags = dict.fromkeys(one.tags, "") | ({"group": one.group} if one.group else {})
        return MLflowTracker(one.project, run_id=self.run_id, run_name=one.name, tags=tags or None)

    def configure(self) -> None:
        self.run_id = self.tracker.tracker.info.run_id
        if self.identity.resume_step is None:  # a parameter can't be written twice
            self.tracker.store_init_configuration(_flat(self.identity.configuration))

    def picture(self, name: str, picture: Image, step: int) -> None:
        mlflow = importlib.import_module("mlflow")
        mlflow.log_image(picture, key=name.replace("/", "-"), step=step)


# It would try an unreachable server for minutes, at every step.
_MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
SERVICES: Mapping[str, type[TrackerService]] = {
    one.name: one for one in (TensorBoardService, WandbService, TrackioService, MlflowService, SwanlabService)
}


def check_trackers(config: TrackingConfig) -> None:
    """Raises UserError if a tracker is not installed or not logged in. Imports nothing."""
    for name in config.to:
        if find_spec(name) is None:
            raise UserError(
                f"tracking.to: {name} is not installed: pip install {name}, or leave it out (tracking.{name}=false)."
            )
        if how := missing_login(name):
            raise UserError(f"tracking.to: {name} is not logged in: {how}, or leave it out (tracking.{name}=false).")


class TrackerServices:
    """All trackers of a run. The first failure of each is told with ``tell``; a minute later it is tried again."""

    def __init__(self, names: Sequence[str], identity: RunIdentity, tell: Callable[[str], None]) -> None:
        """Raises UserError if one can't be started."""
        self._tell = tell
        self._resting: dict[str, float] = {}
        self._told: set[str] = set()
        self._live: list[TrackerService] = []
        path = identity.folder / IDS_FILE
        ids = json.loads(path.read_text(encoding="utf-8")) if identity.resume_step is not None and path.exists() else {}
        for name in names:
            service = SERVICES[name](identity, ids.get(name))
            try:
                service.start()
            except Exception as error:
                self.finish()
                raise UserError(
                    f"tracking.to: {name} could not be started ({_reason(error)}); mend that, or leave it out "
                    f"(tracking.{name}=false)."
                ) from error
            self._live.append(service)
            if service.address:
                tell(f"{name}: {service.address}")
        found = {service.name: service.run_id for service in self._live if service.run_id}
        if found:
            write_atomically(path, json.dumps({**ids, **found}) + "\n")

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._each(lambda service: service.log(numbers, step))

    def picture(self, name: str, picture: Image, step: int) -> None:
        self._each(lambda service: service.picture(name, picture, step))

    def finish(self) -> None:
        """Waits until everything has been handed over."""
        self._resting.clear()
        self._each(lambda service: service.finish())
        self._live.clear()

    def _each(self, call: Callable[[TrackerService], Any]) -> None:
        for service in self._live:
            if time.monotonic() < self._resting.get(service.name, 0.0):
                continue
            try:
                call(service)
            except Exception as error:  # of somebody else's network or disk
                self._resting[service.name] = time.monotonic() + _RETRY_S
                if service.name not in self._told:
                    self._told.add(service.name)
                    self._tell(
                        f"tracking: {service.name} failed ({_reason(error)}); the run goes on, and metrics.jsonl has "
                        "all numbers"
                    )


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """``{"train": {"lr": 1}} -> {"train.lr": 1}``."""
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:200]}" if lines else type(error).__name__
