"""When each of two networks learns, and what a schedule cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.load import load
from rl.config.rules import notes
from rl.config.schema import Config
from rl.config.sections.schedule import ScheduleConfig
from rl.types import UserError


def turns(steps: int, **given: object) -> str:
    schedule = ScheduleConfig.model_validate(given)
    return "".join({"ar": "a", "decoder": "d", None: "2"}[schedule.turn(step)] for step in range(steps))


def test_turns() -> None:
    assert turns(4) == "2222"
    assert turns(5, order="alternate") == "adada"
    assert turns(9, order="alternate", ar={"steps": 3}, decoder={"steps": 1}) == "aaadaaada"
    assert turns(6, order="after", ar={"steps": 4}) == "aaaadd"


def test_a_network_learns_in_its_turn_and_both_without_one() -> None:
    alternate = ScheduleConfig.model_validate({"order": "alternate", "ar": {"steps": 2, "group_size": 8}})
    assert [alternate.learns(step, "ar") for step in range(4)] == [True, True, False, True]
    assert [alternate.learns(step, "decoder") for step in range(4)] == [False, False, True, False]
    assert (alternate.steps_of("ar", 7), alternate.steps_of("decoder", 7)) == (5, 2)
    assert [alternate.phase(step).group_size for step in range(3)] == [8, 8, None]
    assert ScheduleConfig().learns(3, "ar") and ScheduleConfig().learns(3, "decoder")
    assert ScheduleConfig().steps_of("decoder", 7) == 7


def test_a_word_is_a_schedule(tmp_path: Path) -> None:
    assert said(tmp_path, "alternate") is None
    file = tmp_path / "s.yaml"
    schedule = load(file, ["render.renders=2", "schedule.ar.steps=3"]).schedule
    assert (schedule.order, schedule.ar.steps) == ("alternate", 3)
    assert (
        load(
            file, ["render.renders=2", "schedule.ar.steps=3", "schedule=both", "schedule.ar.steps=null"]
        ).schedule.order
        == "both"
    )


def test_the_note_on_a_warm_up_counts_the_steps_of_each_network() -> None:
    config = Config.model_validate(
        {
            "trainers": ("ar", "decoder"),
            "schedule": {"order": "alternate", "ar": {"steps": 3}},
            "train": {"steps": 12, "warmup_steps": 5},
            "decoder": {"warmup_steps": 5},
        }
    )
    assert [note for note in notes(config) if "warmup" in note] == [
        "decoder.warmup_steps: the run ends inside its warm-up, after 3 of 5 optimiser steps"
    ]


BOTH = "trainers: [ar, decoder]\n"


@pytest.mark.parametrize(
    ("schedule", "above", "message"),
    [
        (
            "{order: both, decoder: {renders: 8}}",
            BOTH,
            "s.yaml:3: schedule.decoder.renders: is for steps of one network alone, and schedule.order: both has none; "
            "write alternate or after",
        ),
        (
            "{order: alternate}",
            "trainers: [decoder]\n",
            "s.yaml:3: schedule.order: is alternate, for two networks that take turns, and trainers is [decoder]; "
            "write trainers: [ar, decoder], or leave it out",
        ),
        (
            "{order: after}",
            BOTH,
            "s.yaml:3: schedule.order: is after, and nothing says when; give schedule.ar.steps, the steps of the "
            "language model",
        ),
        (
            "{order: after, ar: {steps: 9}}",
            BOTH,
            "s.yaml:3: schedule.ar.steps: is 9 of train.steps 9, so the decoder's turn never comes; make it smaller",
        ),
        (
            "{order: after, ar: {steps: 3}, decoder: {steps: 3}}",
            BOTH,
            "s.yaml:3: schedule.decoder.steps: with order: after the decoder has the rest of the run; leave it out",
        ),
        (
            "{order: alternate, ar: {group_size: 1}}",
            BOTH,
            "s.yaml:3: schedule.ar.group_size: advantage 'grpo' compares the samples of a group, so it needs at least "
            "2, got 1",
        ),
        (
            "{order: alternate, decoder: {renders: 1}}",
            BOTH,
            "s.yaml:3: schedule.decoder.renders: is 1, and a picture teaches the decoder by its difference from other "
            "pictures of the same tokens, so there is nothing to learn from; make it at least 2",
        ),
        (
            "{order: sometimes}",
            BOTH,
            "s.yaml:3: schedule.order: must be 'both' or 'alternate' or 'after', got 'sometimes' (text)",
        ),
        (  # and nothing of the group size, which only the schedule could make right
            "{order: alternat, ar: {group_size: 8}}",
            BOTH + "rollout: {group_size: 1}\n",
            "s.yaml:4: schedule.order: must be 'both' or 'alternate' or 'after', got 'alternat' (text), did you mean "
            "'alternate'?",
        ),
        ("{order: alternate, ar: {group_size: 8, renders: 1}, decoder: {group_size: 1, renders: 8}}", BOTH, None),
    ],
)
def test_what_a_schedule_cannot_be(schedule: str, above: str, message: str | None, tmp_path: Path) -> None:
    assert said(tmp_path, schedule, above) == message


def test_each_phase_brings_its_own_numbers(tmp_path: Path) -> None:
    """The run's own may then be such as no step has."""
    phases = "{order: alternate, ar: {group_size: 8}, decoder: {renders: 8}}"
    assert said(tmp_path, phases, BOTH, "rollout.group_size=1", "render.renders=1") is None


def said(folder: Path, schedule: str, above: str = BOTH, *overrides: str) -> str | None:
    """What is refused of this configuration, if anything."""
    file = folder / "s.yaml"
    file.write_text(f"{above}train: {{steps: 9}}\nschedule: {schedule}\nrewards: {{geneval: geneval}}\n")
    try:
        load(file, ["render.renders=2", *overrides])
    except UserError as error:
        return str(error).replace(f"{folder}/", "")
    return None
