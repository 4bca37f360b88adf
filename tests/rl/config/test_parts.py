"""Which part learns from which reward: what cannot be is one sentence with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.load import load, load_with_origins
from rl.config.rules import idle
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


LINES = """extends: parent.yaml
trainers: [{part}]
rewards: {{geneval: geneval}}
loss: dapo
eval: {{parts: 8}}
train: {{lr: 1e-3, micro_batch: 8, updates_per_rollout: 7}}
"""


def told_idle(folder: Path, part: str, *overrides: str) -> list[str]:
    (folder / "parent.yaml").write_text("kl: null\nrender: {renders: 2}\ntrain: {steps: 9, weight_decay: 0.1}\n")
    file = folder / "idle.yaml"
    file.write_text(LINES.format(part=part))
    config, origins = load_with_origins(file, overrides)
    return [told.replace(f"{folder}/", "") for told in idle(config, origins, str(file))]


def test_keys_of_a_network_that_stays_as_it_is_are_told(tmp_path: Path) -> None:
    """Those of the file itself and typed ones; what is inherited may have been meant for others."""
    assert told_idle(tmp_path, "decoder", "train.zero_stage=1", "train.dtype=float32") == [
        "train.lr (idle.yaml:6), train.zero_stage (command line), train.updates_per_rollout (idle.yaml:6), loss "
        "(idle.yaml:4): without effect, for trainers is [decoder], and the language model stays as it is"
    ]
    assert told_idle(tmp_path, "ar", "train.updates_per_rollout=1") == [
        "eval.parts (idle.yaml:5): without effect, for trainers is [ar], and the decoder stays as it is"
    ]
    assert told_idle(tmp_path, "ar, decoder", "train.updates_per_rollout=1") == []
    assert told_idle(tmp_path, "decoder", "train.steps=0") == []  # nothing learns, and nothing is expected to


def test_the_language_models_rules_are_for_one_that_learns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train.updates_per_rollout: 7 does not divide"):
        told_idle(tmp_path, "ar")
    with pytest.raises(UserError, match=r"train.ranks: 300 ranks can't share the 256 pictures of an update of the dec"):
        told_idle(tmp_path, "decoder", "train.ranks=300")
    with pytest.raises(UserError, match="a step would hold 32,000,000 pictures .* lower one of them"):
        told_idle(tmp_path, "decoder", "render.renders=250000")


def said(folder: Path, text: str) -> str | None:
    """What is refused of this configuration, if anything."""
    file = folder / "parts.yaml"
    file.write_text(text)
    try:
        load(file, ["render.renders=2"])
    except UserError as error:
        return str(error).replace(f"{folder}/", "")
    return None
