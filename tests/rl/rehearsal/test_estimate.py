"""What is told of a step and a run after two samples, by hand."""

from __future__ import annotations

import time
from dataclasses import replace

import psutil
import pytest

from rl.config.schema import Config
from rl.rehearsal.estimate import StepWork, Work, run_seconds, step_seconds, told
from rl.rehearsal.meter import Measured, Meter

STEP = StepWork(256, 512, frozenset({"update"}))
WORK = Work({STEP: 10}, evaluations=2, held_out=128, at_once=128, device="cuda", reward_workers=1)


def measured(**seconds: tuple[float, int]) -> dict[str, Measured]:
    return {stage: Measured(took, rows, 0) for stage, (took, rows) in seconds.items()}


def test_sequences_share_a_reading_of_the_weights_and_pictures_do_not() -> None:
    assert step_seconds(measured(sample=(8.0, 2)), STEP, WORK) == 16.0  # two rounds of 128 side by side
    assert step_seconds(measured(sample=(8.0, 2)), STEP, replace(WORK, device="cpu")) == 2 * 8 * 128 / 4
    assert step_seconds(measured(sample=(8.0, 16)), STEP, replace(WORK, device="cpu")) == 2 * 8 * 128 / 16
    assert step_seconds(measured(paint=(2.0, 4)), STEP, WORK) == 256.0
    assert step_seconds(measured(update=(2.0, 16), forward=(1.0, 2)), STEP, WORK) == 32.0 + 128.0


@pytest.mark.parametrize(
    ("score", "workers", "expected"), [(0.5, 1, 256), (2.0, 1, 512), (2.0, 2, 512), (8.0, 16, 256)]
)
def test_scoring_goes_on_beside_painting(score: float, workers: int, expected: float) -> None:
    """512 pictures are painted in 256 s; two are scored in ``score`` s, side by side where there are workers."""
    seconds = step_seconds(measured(paint=(1.0, 2), score=(score, 2)), STEP, replace(WORK, reward_workers=workers))
    assert seconds == max(256, expected)


def test_an_evaluation_acts_and_does_not_learn() -> None:
    parts = measured(sample=(8.0, 2), paint=(2.0, 4), update=(2.0, 2), guards=(1.0, 2))
    step, evaluation = 16 + 256 + 256 + 128, 8 + 128 / 2  # a picture of each of 128 sequences
    assert run_seconds(parts, WORK) == 10 * step + 2 * evaluation


def test_what_is_told() -> None:
    parts = {"sample": Measured(8.0, 2, 3_210_000_000), "update": Measured(75.0, 2, 0)}
    assert told(parts, replace(WORK, evaluations=1)) == (
        "rehearsal of one prompt: sample 2 in 8.00 s (3.2 GB), update 2 in 1 min 15 s; estimated from these few, a "
        "step takes about 2 h 40 min, 10 steps and 1 evaluation about 26 h 42 min"
    )
    only_evaluated = told(measured(paint=(1.0, 2)), replace(WORK, steps={}))
    assert only_evaluated.endswith("estimated from these few, 2 evaluations take about 2 min 08 s")


def test_the_work_of_a_run() -> None:
    config = Config.model_validate(
        {
            "data": {"train": {"use": "shapes"}, "prompts_per_step": 4},
            "rewards": {"ink": {"use": "a:b"}},
            "rollout": {"group_size": 8, "options": {"max_num_seqs": 16}},
            "render": {"renders": 2},
            "train": {"steps": 10},
            "eval": {"every": 4, "samples_per_prompt": 3},
            "run": {"folder": "x"},
        }
    )
    work = Work.of(config, 4, 5, "cpu", 2)
    step = StepWork(32, 64, frozenset({"update"}))
    assert work == Work({step: 6}, evaluations=3, held_out=15, at_once=16, device="cpu", reward_workers=2)
    assert Work.of(config, 0, 0, "cpu", 1).evaluations == 0


def test_the_work_of_networks_that_take_turns() -> None:
    config = Config.model_validate(
        {
            "data": {"prompts_per_step": 4},
            "trainers": ("ar", "decoder"),
            "rollout": {"group_size": 8},
            "render": {"renders": 2},
            "schedule": {"order": "alternate", "ar": {"steps": 3}, "decoder": {"group_size": 2, "renders": 6}},
            "train": {"steps": 10},
        }
    )
    ar, decoder = StepWork(32, 64, frozenset({"update"})), StepWork(8, 48, frozenset({"decoder"}))
    assert Work.of(config, 0, 5, "cpu", 2).steps == {ar: 8, decoder: 2}
    assert Work.of(config, 6, 5, "cpu", 2).steps == {ar: 3, decoder: 1}
    assert Work.of(config, 8, 5, "cpu", 2).steps == {ar: 2}
    both = config.model_copy(update={"schedule": Config().schedule})
    assert Work.of(both, 0, 5, "cpu", 2).steps == {StepWork(32, 64, frozenset({"update", "decoder"})): 10}


def test_each_network_takes_the_time_of_its_own_steps() -> None:
    ar, decoder = StepWork(32, 64, frozenset({"update"})), StepWork(8, 48, frozenset({"decoder"}))
    work = replace(WORK, steps={ar: 3, decoder: 1}, evaluations=0)
    parts = measured(paint=(1.0, 2), update=(2.0, 2), decoder=(6.0, 4))
    assert step_seconds(parts, ar, work) == 64 / 2 + 32
    assert step_seconds(parts, decoder, work) == 48 / 2 + 48 * 1.5
    assert run_seconds(parts, work) == 3 * 64 + 96
    assert (work.most("paint"), work.most("update"), work.most("decoder")) == (64, 32, 48)
    assert told(parts, work).endswith(
        "a step of the language model takes about 1 min 04 s, one of the decoder 1 min 36 s, 4 steps about 4 min 48 s"
    )


def test_a_part_that_is_measured_again_keeps_its_highest_peak() -> None:
    times = iter([1.0, 4.0, 10.0, 11.0])
    meter, before = Meter(now=lambda: next(times)), psutil.Process().memory_info().rss
    with meter("paint", 2):
        held = b"x" * (80 << 20)
        time.sleep(0.1)
        del held
    first = meter.parts["paint"]
    with meter("paint", 16):
        pass
    assert first.seconds == 3.0 and first.peak - before > 75 << 20
    assert meter.parts["paint"] == Measured(1.0, 16, first.peak)
