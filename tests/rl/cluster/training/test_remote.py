"""A trainer that loses a rank learns again what no checkpoint has, and is asked once more; its ranks are invented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from rl.cluster.training import remote as remote_module
from rl.cluster.training.group import RanksLost, TrainerGroup
from rl.cluster.training.messages import Learnt, TokenLesson
from rl.cluster.training.remote import RemoteTraining
from rl.config.load import load
from rl.learn import Learner
from rl.run_folder.checkpoint import Checkpoint
from rl.run_folder.experience import ExperienceLog
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, Renders, RunFailure, Scores
from tests.rl.rollouts import a_rollout
from tests.rl.run_case import ROOT


class FakeGroup:
    """Its state is the list of what it has learnt; ``dies`` before it has done what comes at these places."""

    size = 2

    def __init__(self) -> None:
        self.learnt: list[object] = []
        self.dies: list[int] = []
        self.calls, self.starts = 0, 0
        self.saved: dict[str, list[object]] = {}

    def join(self, start: object) -> None:
        self.starts += 1
        self.learnt = []

    restart = join

    def ask(self, what: str, *arguments: Any) -> object:
        self.calls += 1
        if self.dies and self.calls == self.dies[0]:
            self.dies.pop(0)
            raise RanksLost("trainer rank 1 of 2 died")
        if what == "learn":
            lesson: TokenLesson = arguments[0]
            self.learnt.append((lesson.step, lesson.advantages_PG.flatten().tolist()))
            return Learnt({"loss": float(len(self.learnt))}, {"forward": 0.25}, len(self.learnt))
        if what == "slow_down":
            self.learnt.append(arguments[0])
        if what == "save":
            self.saved[Path(arguments[0]).parent.name] = list(self.learnt)
        if what == "load":
            self.learnt = list(self.saved[Path(arguments[0]).parent.name])
            return len(self.learnt)
        return None


class Case:
    """A run of a few steps, whose experience is in its log before it is learnt."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, done: int = 0, restarts: int = 3) -> None:
        overrides = ["loop=ahead", "loop.in_turn=true", "cluster.trainers=2", f"run.folder={folder}"]
        overrides.append(f"cluster.trainer_restarts={restarts}")
        folder.mkdir(exist_ok=True)
        self.group, self.folder, self.told = FakeGroup(), folder, list[str]()
        self.training = RemoteTraining(
            load(ROOT / "examples/geneval.yaml", overrides), cast(TrainerGroup, self.group), done
        )
        self.part = self.training.parts["ar"]
        rollout = a_rollout(2, 2)
        self.log = ExperienceLog(folder, rollout.prompts)
        self.learner = Learner(self.training.parts, lambda total, valid: total - total.mean(), sync=None)  # type: ignore[arg-type]
        self.training.load(self.training._config, "run", 1, painters=None)  # type: ignore[arg-type]
        self.training.repeats(self.learner, self.log, self.told.append)
        self.checkpoints: list[int] = []
        monkeypatch.setattr(remote_module.checkpoint, "latest", self._latest)

    def _latest(self, folder: Path, usable: Any) -> Checkpoint | None:
        found = [step for step in self.checkpoints if usable(step)]
        return Checkpoint(self.folder / f"step-{max(found)}", max(found), {}) if found else None  # type: ignore[typeddict-item]

    def step(self, step: int) -> dict[str, float]:
        experience = self.experience(step)
        self.log.write(experience, cast(Any, {}))
        lesson, advantages_PG, _ = self.learner.lesson(experience)
        return self.part.learn(lesson, advantages_PG, Stopwatch())

    def experience(self, step: int) -> Experience:
        rollout = replace(a_rollout(2, 2), version=step)
        values = np.array([0, 1, 2, step], np.float32)
        nothing = Renders(np.zeros((0, 0, 0, 3), np.uint8), (), 1)
        return Experience(step, rollout, nothing, Scores({}, values, values >= 0, values), None, None, step, {}, {})

    def save(self, step: int) -> None:
        self.part.save(self.folder / f"step-{step}" / "trainer")
        self.checkpoints.append(step)


def a_whole_run(case: Case) -> list[dict[str, float]]:
    found = []
    for step in range(5):
        if step in (0, 2):
            case.part.slow_down(0.125)  # by an alarm of what is collected, after the checkpoint
        found.append(case.step(step))
        if step == 1:
            case.part.slow_down(0.5)  # by an alarm, before the checkpoint
        if step == 3:
            case.part.slow_down(0.25)
        if step in (1, 2):
            case.save(step + 1)
    return found


def test_wherever_a_rank_dies_the_same_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = Case(tmp_path / "a", monkeypatch)
    metrics = a_whole_run(undisturbed)
    assert undisturbed.group.starts == 1 and undisturbed.training.restarts == 0
    for place in range(1, undisturbed.group.calls + 1):
        disturbed = Case(tmp_path / f"b{place}", monkeypatch)
        disturbed.group.dies = [place]
        assert a_whole_run(disturbed) == metrics
        assert disturbed.group.learnt == undisturbed.group.learnt
        assert (disturbed.training.restarts, disturbed.group.starts) == (1, 2)
        assert disturbed.part.version == undisturbed.part.version


def test_it_is_told_who_died_and_what_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    case.step(0)
    case.save(1)
    case.step(1)
    case.step(2)
    case.group.dies = [case.group.calls + 1]
    case.step(3)
    assert case.told == [
        "trainer rank 1 of 2 died; all ranks are started again, from the checkpoint of step 1, 2 steps learnt again "
        "from the experience log (restart 1 of at most 3)"
    ]


def test_one_that_dies_while_it_learns_again_is_another_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    for step in range(3):
        case.step(step)
    case.group.dies = [4, 6]
    assert case.step(3)["loss"] == 4.0
    assert [one.partition(";")[2] for one in case.told] == [
        f" all ranks are started again, from the beginning, 3 steps learnt again from the experience log (restart {n} "
        "of at most 3)"
        for n in (1, 2)
    ]


def test_too_many_deaths_end_the_run_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch, restarts=1)
    case.group.dies = [1, 2]
    with pytest.raises(RunFailure) as caught:
        case.step(0)
    assert str(caught.value) == (
        "trainer rank 1 of 2 died, and the trainers were started again 1 time already (cluster.trainer_restarts); "
        "there is no checkpoint yet, so --resume starts from the beginning"
    )


def test_a_resumed_run_goes_back_no_further_than_to_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What slowed it down before is in that checkpoint alone."""
    case = Case(tmp_path, monkeypatch, done=2)
    case.group.saved = {"step-1": ["too old"], "step-2": [("0", []), ("1", []), 0.5]}
    case.checkpoints = [1]
    case.step(2)
    case.group.dies = [case.group.calls + 1]
    with pytest.raises(RunFailure, match="neither a checkpoint nor the experience log has all that it had learnt"):
        case.step(3)
    case.checkpoints = [1, 2]
    case.group.dies = [case.group.calls + 1]
    case.step(3)
    assert [one[0] if isinstance(one, tuple) else one for one in case.group.learnt] == ["0", "1", 0.5, 2, 3]


def test_what_slows_a_resumed_run_down_before_its_first_step_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch, done=2)
    case.group.saved, case.checkpoints = {"step-2": [("0", []), ("1", [])]}, [2]
    case.part.slow_down(0.25)
    case.group.dies = [case.group.calls + 1]
    case.step(2)
    assert [one[0] if isinstance(one, tuple) else one for one in case.group.learnt] == ["0", "1", 0.25, 2]


def test_a_checkpoint_of_steps_that_are_still_to_come_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run had come further, and was resumed from an older one because the log did not reach that far."""
    case = Case(tmp_path, monkeypatch, done=2)
    case.group.saved, case.checkpoints = {"step-2": ["two"], "step-4": ["four"]}, [2, 4]
    case.step(2)
    case.group.dies = [case.group.calls + 1]
    case.step(3)
    assert [one[0] if isinstance(one, tuple) else one for one in case.group.learnt] == ["two", 2, 3]


def test_seconds_of_the_forward_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, timer = Case(tmp_path, monkeypatch), Stopwatch()
    case.part.learn(case.experience(0), torch.zeros(2, 2), timer)
    assert timer.seconds["forward"] == 0.25
    assert set(timer.seconds) == {"forward", "update"}
