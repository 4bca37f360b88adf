"""Updates repeated from the experience log are those that were, to the last bit, and nobody samples for them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rl import milestones, start
from rl.algorithm import advantages
from rl.collectors import Logged
from rl.config.load import load
from rl.config.schema import Config
from rl.halves import build as halves
from rl.learn import Learner, TrainedLanguageModel
from rl.rows import sequences
from rl.run_folder import checkpoint
from rl.run_folder.experience import ExperienceLog, goes_on_exactly
from rl.run_folder.random_state import rng_state
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, UserError
from rollout.sync import WeightSync
from tests.rl.run_case import launch, metrics, write_config
from tests.rl.test_learn import an_experience
from tests.rl.trainer.trainer_case import LAYOUT, make_trainer, weights

STEPS, SAVED = 6, 3


class Student:
    """A trainer, and a collector whose samples depend on what has been learnt and on global random numbers."""

    def __init__(self, folder: Path, last: int = STEPS, **train: Any) -> None:
        self.trainer = make_trainer(**train)
        self.part = TrainedLanguageModel(self.trainer, updates=train.get("updates_per_rollout", 1))
        self.learner = Learner({"ar": self.part}, advantages.grpo, WeightSync([]))
        self.log = ExperienceLog(folder, an_experience().rollout.prompts)
        self.collected: list[int] = []
        self.state: dict[str, Any] = {"drawn": 0}
        self.told: list[str] = []
        self.folder, self.last = folder, last

    def refer(self, step: int, rollout: Any) -> Any:
        return self.trainer.reference_forward(sequences(rollout))

    def collect(self, first: int, last: int) -> Iterator[Experience]:
        for step in range(first, last):
            self.collected.append(step)
            given = an_experience()
            drawn = np.random.randint(LAYOUT.image_start_id, LAYOUT.image_end_id, given.rollout.tokens_BT.shape)
            self.state = {"drawn": (self.state["drawn"] + int(drawn.sum())) % 3}
            drawn[0, 0] = LAYOUT.image_start_id + self.state["drawn"]  # which depends on all steps before
            rollout = replace(given.rollout, tokens_BT=drawn.astype(np.int64), version=self.trainer.version)
            rollout = replace(rollout, logprobs_BT=self.trainer.forward(sequences(rollout)).logprobs_BT.numpy())
            scores = replace(given.scores, total_B=rollout.logprobs_BT.mean(1) + np.random.rand(6).astype(np.float32))
            found = replace(given, step=step, rollout=rollout, scores=scores, version=rollout.version)
            yield replace(found, reference=self.refer(step, rollout), metrics={"score": float(scores.total_B.mean())})

    def study(self, first: int = 0) -> list[dict[str, float]]:
        collector = Logged(self, self.log, self.refer, self.told.append, memory=self)
        found = []
        for experience in collector.collect(first, self.last):
            found.append({**experience.metrics, **self.learner.learn(experience, Stopwatch())})
            if experience.step + 1 == SAVED:
                self.trainer.save(self.folder)
        return found


@pytest.mark.parametrize(
    "train",
    [{}, {"updates_per_rollout": 2, "micro_batch": 2}, {"lora": {"rank": 2}}],
)
def test_steps_after_a_checkpoint_are_learnt_again_bit_for_bit(train: dict[str, Any], tmp_path: Path) -> None:
    np.random.seed(7)
    whole = Student(tmp_path / "whole", **train)
    (tmp_path / "whole").mkdir()
    expected = whole.study()
    np.random.seed(7)
    killed = Student(tmp_path / "killed", last=STEPS - 1, **train)
    (tmp_path / "killed").mkdir()
    killed.study()
    np.random.seed(999)  # another process; what was random then comes out of the log
    resumed = Student(tmp_path / "killed", **train)
    resumed.trainer.load(tmp_path / "killed")
    assert resumed.study(SAVED) == expected[SAVED:]
    assert resumed.collected == [STEPS - 1]
    assert resumed.told == [
        f"the 2 steps since the checkpoint: learnt again from {killed.log.folder}, without sampling"
    ]
    ours, theirs = weights(resumed.trainer), weights(whole.trainer)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.log.upto(0) == STEPS


def test_without_a_checkpoint_the_beginning_is_learnt_again(tmp_path: Path) -> None:
    whole = Student(tmp_path, last=2)
    expected = whole.study()
    again = Student(tmp_path, last=2)
    assert again.study() == expected
    assert again.collected == []
    assert again.told[0].startswith("the 2 steps since")


def test_a_step_whose_experience_cannot_be_written_is_not_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = Student(tmp_path / "gone")
    with pytest.raises(
        UserError, match=r"a folder is gone: cannot write .*experience/step-000000.npz \(logging the ex"
    ):
        student.study()
    assert student.trainer.version == 0


def test_who_keeps_none_removes_what_was_kept_and_decoders_are_refused(tmp_path: Path) -> None:
    prompts = an_experience().rollout.prompts
    with_log = Config.model_validate({"checkpoint": {"experience": True}})
    log = halves.experience_log(with_log, tmp_path, prompts)
    assert log is not None
    log.write(an_experience(), rng_state())
    assert halves.experience_log(with_log, tmp_path, prompts) is not None and log.upto(0) == 1
    assert halves.experience_log(Config(), tmp_path, prompts) is None and log.upto(0) == 0
    file = write_config(tmp_path, tmp_path, checkpoint={"experience": True}, trainers=["ar", "decoder"])
    with pytest.raises(UserError, match=r"checkpoint.experience\S* a decoder learns from latents and hidden states"):
        load(file)
    file = write_config(tmp_path, tmp_path, checkpoint={"experience": True}, groups="resample")
    with pytest.raises(
        UserError, match=r"checkpoint.experience\S* with groups.flat 'resample' a step is made of rounds"
    ):
        load(file)
    assert load(write_config(tmp_path, tmp_path, checkpoint={"experience": "off"})).logs_experience is False


def a_run(folder: Path, steps: int, staleness: int) -> Any:
    """What saving asks of one."""
    part = SimpleNamespace(version=1, save=lambda folder: (folder / "data").write_text("x"))
    config = {"checkpoint": {"keep": 2}, "train": {"steps": steps}, "loop": {"staleness": staleness}}
    return SimpleNamespace(
        folder=folder,
        config=SimpleNamespace(**{name: SimpleNamespace(**keys) for name, keys in config.items()}),
        experience=ExperienceLog(folder, an_experience().rollout.prompts),
        draws=None,
        learner=SimpleNamespace(parts={"ar": part}),
        tracker=SimpleNamespace(stage=lambda name: None),
    )


def test_the_log_reaches_back_to_the_oldest_checkpoint(tmp_path: Path) -> None:
    run = a_run(tmp_path, steps=9, staleness=2)
    log = run.experience
    for step in range(9):
        log.write(replace(an_experience(), step=step), rng_state())
        if (step + 1) % 3 == 0:
            milestones.save(run, step + 1)
    assert checkpoint.oldest(tmp_path) == 6 and (log.upto(5), log.upto(6)) == (5, 9)
    found = checkpoint.latest(tmp_path, usable=lambda step: log.upto(step) >= step + 2)
    assert found is not None and found.step == 6
    random.seed()


@pytest.mark.parametrize(("stops", "goes_on_from"), [((5, 6), None), ((3, 5, 6), 3), ((3, 6, 7), 3), ((3, 5, 7), 5)])
def test_a_run_ahead_that_is_stopped_again_and_again_loses_no_step(
    stops: tuple[int, ...], goes_on_from: int | None, tmp_path: Path
) -> None:
    run = a_run(tmp_path, steps=20, staleness=2)
    for step in range(stops[-1]):
        run.experience.write(replace(an_experience(), step=step), rng_state())
        if step + 1 in stops:
            milestones.save(run, step + 1)
    exact = partial(goes_on_exactly, tmp_path, steps=20, staleness=2)
    found = checkpoint.latest(tmp_path, exact)
    assert (found and found.step) == goes_on_from
    assert run.experience.upto(goes_on_from or 0) == stops[-1]
    said = start._passed_over(tmp_path, found) or ""
    where = "the checkpoint of step" if found else "the beginning"
    assert f"after the checkpoint of step {stops[-1]} was begun with weights that are gone" in said
    assert f"going on from {where}" in said
    assert start._passed_over(tmp_path, checkpoint.latest(tmp_path)) is None


@pytest.mark.slow
def test_a_killed_run_goes_on_without_sampling_what_it_has_learnt_from(tmp_path: Path, tiny_policy: Path) -> None:
    saving = {"every": 3, "experience": True}
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    whole, killed = (write_config(folder, tiny_policy, checkpoint=saving) for folder in folders)
    program = (str(Path(__file__).with_name("killed_launch.py")),)
    done = launch("nowhere", whole, program=program)
    assert done.returncode == 0, done.stderr
    assert collected(folders[0]) == [0, 1, 2, 3, 4, 5]
    assert launch("collecting step 6", killed, program=program).returncode == -9
    assert [step for step, _ in metrics(folders[1] / "run")] == [0, 1, 2, 3, 4]
    (folders[1] / "run" / "log.txt").unlink()
    done = launch("nowhere", killed, "--resume", program=program)
    assert done.returncode == 0, done.stderr
    assert collected(folders[1]) == [5]
    assert "the 2 steps since the checkpoint: learnt again from " in done.stdout
    assert metrics(folders[0] / "run") == metrics(folders[1] / "run")
    ours, theirs = (sorted((folder / "run" / "policy").rglob("*.safetensors")) for folder in folders)
    assert [one.read_bytes() for one in ours] == [one.read_bytes() for one in theirs] != []


def collected(folder: Path) -> list[int]:
    """Steps, as what a run's libraries print was kept."""
    said = (folder / "run" / "log.txt").read_text()
    return [int(step) for step in re.findall(r"collected here: step (\d+)", said)]
