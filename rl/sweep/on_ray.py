"""The runs of a sweep on a Ray cluster: each is a trial of Ray Tune, which gives it a place and, if asked to, ends it
early (ASHA: Li et al. 2018, arXiv 1810.05934).

A trial is the same ``python -m rl.launch`` process as elsewhere; the sweep's folder must be on a disk that all machines
see. A machine that is lost costs a run what it did since its last checkpoint: its trial goes on somewhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from rl.config.schema import Config
from rl.evaluation.results import OVERALL, Evaluation, load_all
from rl.process.interrupt import ended_by_signals
from rl.run_folder.records import read_metrics
from rl.sweep.again import has_begun, is_done
from rl.sweep.board import Board
from rl.sweep.member import Member
from rl.sweep.plan import SweepRun
from rl.sweep.processes import end_at_once, launched, tell_end
from rl.types import UserError

_POLL_S = 0.5
_SAVING_S = 300.0
_METRIC, _TIME = "held_out", "steps"
_FAILURES = 2  # lost machines that a run outlives
_TUNE_FOLDER = "ray"


class SweepTrial(tune.Trainable):
    """One run; an iteration ends with each evaluation, and the last one with the run."""

    def setup(self, config: dict[str, object]) -> None:
        self._run = cast(SweepRun, config["run"])
        os.chdir(cast(str, config["folder"]))  # paths of a configuration start where the sweep was typed
        self._seen = 0
        self._process: subprocess.Popen[bytes] | None = None

    def step(self) -> Mapping[str, object]:
        """Waits for the next evaluation, or for the end."""
        if is_done(self._run):
            return self._report(0)
        if self._process is None:
            self._process = launched(self._run, dict(os.environ), resume=has_begun(self._run.folder))
        while (code := self._process.poll()) is None:
            found = load_all(self._run.folder)
            if len(found) > max(1, self._seen) and found[-1].step < self._run.steps:
                self._seen = len(found)
                return self._report(None)
            time.sleep(_POLL_S)
        return self._report(code)

    def _report(self, code: int | None) -> Mapping[str, object]:
        found = load_all(self._run.folder)
        done = found[-1].step if found else 0
        score = held_out(found[-1], self._run.config) if found else 0.0
        return {_METRIC: score, _TIME: done, "code": code, tune.result.DONE: code is not None}

    def cleanup(self) -> None:
        """Of a trial that ended, was ended early, or whose sweep was stopped: a run saves its state first."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SAVING_S)
        end_at_once(self._process)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a run's own checkpoints are what it goes on from."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing either."""


def held_out(evaluation: Evaluation, config: Config) -> float:
    """What ASHA compares: the overall score of the first reward that is trained on."""
    monitors = {name for name, reward in config.rewards.items() if reward.role == "monitor"}
    for reward in sorted(evaluation.results, key=monitors.__contains__):
        tasks = evaluation.results[reward]
        if (found := tasks[OVERALL].estimate) is not None:
            return found.mean
    return 0.0


def run_on_ray(
    members: Sequence[Member],
    board: Board,
    changed: Callable[[], None],
    *,
    address: str,
    asha: bool,
    folder: Path,
) -> None:
    """Those that wait. Raises: UserError if no cluster answers."""
    waiting = [one for one in members if one.state == "waiting"]
    if not waiting:
        return
    _connect(address)
    by_folder = {str(one.run.folder): one for one in waiting}
    with ended_by_signals():
        try:
            tuner = tune.Tuner(
                tune.with_resources(SweepTrial, resources(waiting)),
                param_space={"run": tune.grid_search([one.run for one in waiting]), "folder": str(Path.cwd())},
                tune_config=tune.TuneConfig(scheduler=_scheduler(waiting, asha=asha), reuse_actors=False),
                run_config=tune.RunConfig(
                    name=_TUNE_FOLDER,
                    storage_path=str(folder.resolve()),
                    callbacks=[_Telling(by_folder, board, changed)],
                    failure_config=tune.FailureConfig(max_failures=_FAILURES),
                    verbose=0,
                ),
            )
            tuner.fit()
        finally:
            ray.shutdown()
    for one in waiting:
        if one.state in ("waiting", "running"):  # Tune gave it up
            one.ended(0 if is_done(one.run) else 1)
            tell_end(one, board)
    changed()


class _Telling(tune.Callback):
    """What Tune says of its trials, for the board and ``sweep.jsonl``."""

    def __init__(self, members: Mapping[str, Member], board: Board, changed: Callable[[], None]) -> None:
        self._members, self._board, self._changed = members, board, changed

    def __getstate__(self) -> dict[str, object]:
        """Tune writes its callbacks down; this one belongs to this process and its terminal."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[object], **info: object) -> None:
        self._board.look()

    def on_trial_start(self, iteration: int, trials: list[object], trial: Trial, **info: object) -> None:
        one = self._of(trial)
        one.state, one.started = "running", time.monotonic()
        self._board.say(f"{one.run.folder}: on Ray, log in {one.run.log}")
        self._changed()

    def on_trial_complete(self, iteration: int, trials: list[object], trial: Trial, **info: object) -> None:
        one, code = self._of(trial), (trial.last_result or {}).get("code")
        if code is None:
            rows = read_metrics(one.run.folder)
            done = rows[-1].step + 1 if rows else 0
            score = (trial.last_result or {}).get(_METRIC, 0.0)
            one.state = "stopped early"
            one.reason = f"ASHA, held-out score {score:.3f}, about step {done} of {one.run.steps}"
        else:
            one.ended(int(code))
        tell_end(one, self._board)
        self._changed()

    def on_trial_error(self, iteration: int, trials: list[object], trial: Trial, **info: object) -> None:
        one = self._of(trial)
        one.ended(1)
        one.reason = f"Ray lost it {_FAILURES + 1} times; {one.reason}"
        tell_end(one, self._board)
        self._changed()

    def _of(self, trial: Trial) -> Member:
        return self._members[str(trial.config["run"].folder)]


def resources(members: Sequence[Member]) -> dict[str, float]:
    """A GPU per rank where the cluster has GPUs, else an equal share of the cores of a machine."""
    ranks = max(one.run.config.train.ranks for one in members)
    found = ray.cluster_resources()
    if found.get("GPU", 0) >= ranks:
        return {"CPU": 1.0, "GPU": float(ranks)}
    return {"CPU": float(max(1, min(ranks, int(found.get("CPU", 1)))))}


def _scheduler(members: Sequence[Member], *, asha: bool) -> TrialScheduler:
    if not asha:
        return FIFOScheduler()
    steps = max(one.run.steps for one in members)
    grace = min(one.run.config.eval.every for one in members)
    return ASHAScheduler(
        time_attr=_TIME, metric=_METRIC, mode="max", max_t=steps + 1, grace_period=grace, reduction_factor=2
    )


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address=address or None, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except ValueError:  # it joined a running cluster, whose dashboard is its own
        ray.init(address=address or "auto", logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"--ray {address}: no Ray cluster answers ({error}); start one with: ray start --head"
        ) from error
