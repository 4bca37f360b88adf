"""Which part learns from which reward: what cannot be is one sentence with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.load import load
from rl.types import UserError

REWARDS = """rewards:
  geneval: geneval
  ocr: {use: ocr, part: decoder}
"""


@pytest.mark.parametrize(
    ("trainers", "message"),
    [
        (
            "[ar]",
            "parts.yaml:4: rewards.ocr.part: is decoder, which is not trained (trainers: [ar]); write both, or train "
            "it with trainers: [ar, decoder]",
        ),
        ("[ar, decoder]", None),
        ("[decoder]", None),
    ],
)
def test_a_reward_for_a_part_that_is_not_trained(trainers: str, message: str | None, tmp_path: Path) -> None:
    assert said(tmp_path, f"trainers: {trainers}\n{REWARDS}") == message


def test_a_part_that_no_reward_is_left_for(tmp_path: Path) -> None:
    text = REWARDS.replace("geneval: geneval", "geneval: {use: geneval, part: decoder}")
    assert said(tmp_path, f"trainers: [ar, decoder]\n{text}") == (
        "parts.yaml:1: trainers: no reward with role: train is left for ar, so it would learn nothing; give one of "
        "them part: ar or both, or take ar out"
    )


def test_a_monitor_is_for_nobody_to_learn_from(tmp_path: Path) -> None:
    assert said(tmp_path, REWARDS.replace("part: decoder", "part: decoder, role: monitor")) is None


def test_an_evaluation_alone_learns_from_none(tmp_path: Path) -> None:
    assert said(tmp_path, REWARDS + "train: {steps: 0}\n") is None


def test_a_part_that_there_is_not(tmp_path: Path) -> None:
    assert said(tmp_path, REWARDS.replace("part: decoder", "part: decodr")) == (
        "parts.yaml:3: rewards.ocr.part: must be 'ar' or 'decoder' or 'both', got 'decodr' (text), did you mean "
        "'decoder'?"
    )


def test_a_mistyped_trainer_is_all_that_is_wrong(tmp_path: Path) -> None:
    """What the other sections ask of the trainers can't be told."""
    assert said(tmp_path, f"trainers: [ar, decodr]\ndecoder: {{lr: 1e-3}}\n{REWARDS}") == (
        "parts.yaml:1: trainers[1]: must be 'ar' or 'decoder', got 'decodr' (text), did you mean 'decoder'?"
    )


def said(folder: Path, text: str) -> str | None:
    """What is refused of this configuration, if anything."""
    file = folder / "parts.yaml"
    file.write_text(text)
    try:
        load(file, ["render.renders=2"])
    except UserError as error:
        return str(error).replace(f"{folder}/", "")
    return None
