"""How a run begins, and that it lets go of what it does not need any more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rl import loop, milestones
from rl.collect import RewardsFailed
from rl.run_folder.checkpoint import Checkpoint
from rl.run_folder.random_state import rng_state
from rl.run_folder.records import Alarm
from rl.types import Experience, UserError
from tests.rl.test_learn import an_experience


@pytest.mark.parametrize(("step", "evaluated"), [(None, True), (0, True), (3, False)])
def test_the_base_is_the_baseline_of_the_guards_whenever_nothing_was_learnt_yet(
    step: int | None, evaluated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    for name in ("restore", "rehearse", "first_weights", "replay_guards"):
        monkeypatch.setattr(loop, name, lambda *_: None)
    monkeypatch.setattr(loop, "evaluate_if_due", lambda run, done: {"eval/ink": 0.5})
    guards = SimpleNamespace(check=lambda at, metrics: seen.append((at, metrics)))
    run: Any = SimpleNamespace(guards=guards, views=None)
    saved = None if step is None else Checkpoint(Path("step"), step, {})  # type: ignore[typeddict-item]
    loop.begin(run, saved)
    assert seen == ([(-1, {"eval/ink": 0.5})] if evaluated else [])


def test_an_experience_is_let_go_before_the_next_is_collected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alive: list[weakref.ref[Experience]] = []

    class Collector:
        def collect(self, first: int, last: int) -> Iterator[Experience]:
            for step in range(first, last):
                gc.collect()
                assert all(one() is None for one in alive)
                experience = replace(an_experience(), step=step)
                alive.append(weakref.ref(experience))
                waiting = [experience]
                del experience
                yield waiting.pop()

    def evaluate(run: Any, done: int) -> dict[str, float]:
        assert all(one() is None for one in alive)
        return {}

    monkeypatch.setattr(loop, "evaluate_if_due", evaluate)
    monkeypatch.setattr(loop, "show_if_due", lambda *_: None)
    monkeypatch.setattr(loop, "save_if_due", lambda *_, **__: None)
    (tmp_path / "metrics.jsonl").write_text("")
    run = a_run(tmp_path, Collector())
    assert loop.train(run, 0) == 3
    assert len(alive) == 3


def test_a_run_whose_folder_is_gone_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("evaluate_if_due", "show_if_due"):
        monkeypatch.setattr(loop, name, lambda *_, **__: {})
    run = a_run(tmp_path / "gone", SimpleNamespace(collect=lambda *_: iter([an_experience()])))
    with pytest.raises(UserError, match=r"gone/metrics.jsonl is gone: the run folder was removed or moved while the"):
        loop.train(run, 0)


@pytest.mark.parametrize(
    ("first", "done", "told"),
    [
        (0, 0, "no step was done yet: the same command starts again"),
        (0, 2, "step 2 is saved, go on from step 3 with: python -m rl.launch '{}/config.yaml' --resume"),
        (2, 2, "step 2 is saved, go on from step 3 with: python -m rl.launch '{}/config.yaml' --resume"),
    ],
)
def test_rewards_that_fail_cost_no_step_that_is_done(
    first: int, done: int, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    states: list[Any] = []
    saved: list[tuple[int, Any]] = []
    folder = tmp_path / "a run"

    def collect(at: int, last: int) -> Iterator[Experience]:
        for step in range(at, last):
            states.append(rng_state())
            np.random.random()  # a step that fails has moved the generators
            if step == done:
                raise RewardsFailed("rewards.ink failed")
            yield replace(an_experience(), step=step)

    for name in ("evaluate_if_due", "show_if_due", "save_if_due"):
        monkeypatch.setattr(loop, name, lambda *_, **__: {})
    monkeypatch.setattr(loop, "require_log", lambda folder: None)
    monkeypatch.setattr(milestones, "save", lambda run, done, rng: saved.append((done, rng)))
    with pytest.raises(RewardsFailed) as caught:
        loop.train(a_run(folder, SimpleNamespace(collect=collect)), first)
    assert str(caught.value) == f"rewards.ink failed; {told.format(folder)}"
    assert caught.value.__cause__ is None  # or a traceback would be kept that says no more
    assert saved == ([(done, states[-1])] if done else [])


def test_the_rewards_sentence_stays_where_nothing_can_be_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(milestones, "save", full)
    told = milestones.save_finished(a_run(tmp_path, None), 2, rng_state())
    assert told == "what is done since the last checkpoint could not be saved: the disk is full"


def test_a_checkpoint_that_is_there_is_not_written_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (there := tmp_path / "checkpoints" / "step-000002").mkdir(parents=True)
    (there / "manifest.json").touch()
    monkeypatch.delattr(milestones, "save")
    assert milestones.save_finished(a_run(tmp_path, None), 2, rng_state()).startswith("step 2 is saved, go on from")


def a_run(folder: Path, collector: Any) -> Any:
    """Three steps of nothing."""
    return SimpleNamespace(
        folder=folder,
        config=SimpleNamespace(
            train=SimpleNamespace(steps=3), guards=SimpleNamespace(lr_factor=0.5), tracking=SimpleNamespace(profile=())
        ),
        collector=collector,
        learner=SimpleNamespace(learn=lambda experience, timer: {}),
        guards=SimpleNamespace(
            foresee=lambda *_: [], check=lambda *_: [], action=lambda alarm: ("warn", "guards.action")
        ),
        tracker=SimpleNamespace(log=lambda *_: None, message=print, stage=lambda name: None),
        interrupt=SimpleNamespace(asked=False),
    )


def test_alarms_act_as_their_guards_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    for name in ("evaluate_if_due", "show_if_due"):
        monkeypatch.setattr(loop, name, lambda *_, **__: {})
    monkeypatch.setattr(loop, "save_if_due", lambda *_, **__: done.append("saved"))
    (tmp_path / "metrics.jsonl").write_text("")
    steps = SimpleNamespace(collect=lambda *_: (replace(an_experience(), step=step) for step in range(3)))
    run = a_run(tmp_path, steps)
    run.learner.slow_down = lambda factor: done.append(f"slower by {factor}")
    alarms = [Alarm("kl", 0, 0.0, 2.0, "kl is 2."), Alarm("entropy", 1, 1.0, 0.0, "entropy fell.")]
    run.guards.check = lambda step, metrics: alarms[step : step + 1]
    actions = {"kl": ("lower_lr", "guards.actions.max_kl"), "entropy": ("stop", "guards.action")}
    run.guards.action = lambda alarm: actions[alarm.metric]
    with pytest.raises(loop.AlarmStop, match=r"^guards.action is 'stop' and an alarm went off: entropy fell\.$"):
        loop.train(run, 0)
    assert done == ["slower by 0.5", "saved", "saved"]  # a checkpoint of that step has it already
    told = "guards.actions.max_kl: lower_lr, so from now on learning rates are 0.5 times what they were"
    assert told in capsys.readouterr().out


def test_what_is_foreseen_is_obeyed_before_the_update(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    def learn(experience: Experience, timer: object) -> dict[str, float]:
        done.append(f"update {experience.step}")
        return {}

    for name in ("evaluate_if_due", "show_if_due", "save_if_due"):
        monkeypatch.setattr(loop, name, lambda *_, **__: {})
    monkeypatch.setattr(milestones, "save", lambda run, steps, rng: done.append(f"step {steps} saved"))
    (tmp_path / "metrics.jsonl").write_text("")
    run = a_run(tmp_path, SimpleNamespace(collect=lambda *_: (replace(an_experience(), step=at) for at in range(3))))
    run.learner.learn = learn
    run.learner.slow_down = lambda factor: done.append(f"slower by {factor}")
    run.tracker.log = lambda step, metrics, seconds, alarms: done.append(f"told of {len(alarms)}")
    alarms = [Alarm("agreement/clip", 0, 0.0, -4.0, "clip pays."), Alarm("agreement/pick", 1, 0.0, -4.0, "pick pays.")]
    run.guards.foresee = lambda step, metrics: alarms[step : step + 1]
    actions = {"agreement/clip": ("lower_lr", "guards.action"), "agreement/pick": ("stop", "guards.actions.x")}
    run.guards.action = lambda alarm: actions[alarm.metric]
    told = r"^guards.actions.x is 'stop' and an alarm went off: pick pays\.; step 1 is saved, go on from step 2 with: "
    with pytest.raises(loop.ForeseenStop, match=told):
        loop.train(run, 0)
    assert done == ["slower by 0.5", "update 0", "told of 1", "step 1 saved"]
