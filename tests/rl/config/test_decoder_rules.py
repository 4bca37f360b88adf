"""Mistakes in a run whose decoder learns: each one sentence with the key and the way out."""

from __future__ import annotations

from typing import Any

import pytest

from rl.config.decoder_rules import check_decoder, decoder_notes
from rl.config.load import load
from rl.config.schema import Config
from rl.types import UserError

SOUND: dict[str, Any] = {"trainers": ("decoder",), "render": {"renders": 2, "steps": 8}}
WINDOW: dict[str, Any] = {
    "trainers": ("ar", "decoder"),
    "render": {"renders": 2, "sampler": {"use": "cps", "options": {"window": 2}}},
    "decoder": {"loss": {"use": "flow_grpo"}},
}


def broken(base: dict[str, Any], **sections: dict[str, Any]) -> dict[str, str]:
    merged = base | {name: {**base.get(name, {}), **section} for name, section in sections.items()}
    return dict(check_decoder(Config.model_validate(merged)))


def test_sound_runs() -> None:
    assert broken(SOUND) == broken(WINDOW) == {}
    assert Config().trained_decoder is None
    assert Config.model_validate(SOUND).trained_decoder is not None


WRONG: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (SOUND, {"render": {"renders": 1}}, "render.renders", "there is nothing to learn from; make it at least 2"),
    (SOUND, {"render": {"steps": 2}}, "decoder.timesteps", "is 3, and a picture is painted in render.steps 2"),
    (WINDOW, {"render": {"sampler": {"use": "euler"}}}, "render.sampler",
     "'flow_grpo' learns from a window of stochastic steps, and 'euler' has none; write {use: cps, options:"),
    (WINDOW, {"render": {"guidance": 2.0}}, "render.guidance", "is 2, and decoder.loss 'flow_grpo' trains the flow"),
    (WINDOW, {"decoder": {"old": "nft"}}, "decoder.old", "is 'nft', and decoder.loss 'flow_grpo' compares with"),
    (SOUND, {"render": {"dtype": "bfloat16"}}, "render.dtype", "is bfloat16 and decoder.dtype float32: a decoder that"),
    (SOUND, {"render": {"offload": True}}, "render.offload", "stays where it is trained; turn it off"),
    (SOUND, {"decoder": {"follow": True}}, "decoder.follow", "no language model that learns to be followed; add ar to"),
    ({**SOUND, "trainers": ("ar", "decoder")}, {"decoder": {"follow": True}, "schedule": {"order": "alternate"}},
     "decoder.follow", "schedule.order is alternate, so in the decoder's steps no language model has moved since"),
    ({**SOUND, "trainers": ("ar", "decoder")}, {"decoder": {"follow": True}, "schedule": {"order": "after"}},
     "decoder.follow", "schedule.order is after, so in the decoder's steps no language model has moved since"),
    (WINDOW, {"decoder": {"loss": {"use": "flow_grpo", "options": {"weights": "guard"}}}},
     "decoder.loss.options.weights", "is guard, which is for the steps of an SDE, and render.sampler is 'cps'; use"),
    (WINDOW, {"decoder": {"follow": True}}, "decoder.follow", "'flow_grpo' replays the steps as they were painted"),
    (SOUND, {"rollout": {"sleep": 2}}, "rollout.sleep", "and a decoder alone sends none; set it to 1"),
    (SOUND, {"decoder": {"updates_per_rollout": 3}}, "decoder.updates_per_rollout", "3 does not divide the 128"),
    (SOUND, {"decoder": {"lora": {}, "train": "all"}}, "decoder.train", "is 'all', and with decoder.lora adapters"),
    (SOUND, {"decoder": {"lora": {}, "offload_reference": "cpu"}}, "decoder.offload_reference", "leave it null"),
    (SOUND, {"decoder": {"offload_optimizer": "cpu"}}, "decoder.offload_optimizer", "decoder.zero_stage is 0; set it"),
    (SOUND, {"decoder": {"zero_stage": 3, "ema": 0.9}}, "decoder.zero_stage", "need the whole; use stage 2"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "changed", "key", "sentence"), WRONG, ids=lambda value: str(value)[:30])
def test_messages(base: dict[str, Any], changed: dict[str, Any], key: str, sentence: str) -> None:
    found = broken(base, **changed)
    assert list(found) == [key] and sentence in found[key] and "\n" not in found[key]


def test_weights_of_an_sde_are_right_with_one() -> None:
    guard = {"loss": {"use": "flow_grpo", "options": {"weights": "guard"}}}
    assert broken(WINDOW, decoder=guard, render={"sampler": {"use": "sde", "options": {"window": 2}}}) == {}
    equal = {"loss": {"use": "flow_grpo", "options": {"weights": "tempflow"}}}
    assert broken(WINDOW, decoder=equal) == {}


def test_a_decoder_that_is_only_evaluated_needs_no_second_render() -> None:
    assert broken(SOUND, render={"renders": 1}, train={"steps": 0}) == {}
    evaluated = ["trainers=[decoder]", "render.renders=1", "train.steps=0"]
    assert load(None, [REWARD, *evaluated]).render.renders == 1


def test_a_decoder_that_is_only_evaluated_may_paint_as_it_could_not_learn() -> None:
    assert broken(SOUND, render={"steps": 2}, train={"steps": 0}) == {}
    assert broken(WINDOW, render={"guidance": 2.0, "sampler": {"use": "euler"}}, train={"steps": 0}) == {}


def told(**sections: dict[str, Any]) -> list[str]:
    long = {"train": {"steps": 60}, "rollout": {"group_size": 4}}
    merged = SOUND | {name: {**SOUND.get(name, {}), **long.get(name, {}), **sections.get(name, {})} for name in
                      (*SOUND, *long, *sections) if name != "trainers"}  # fmt: skip
    return list(decoder_notes(Config.model_validate(merged)))


def test_a_run_in_which_all_is_as_it_seems_has_no_notes() -> None:
    assert told() == told(train={"steps": 0}) == []


NOTES: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"render": {"guidance": 2.0}},
        ["render.guidance: is 2, and decoder.loss 'nft' improves the flow without guidance"],
    ),
    ({"render": {"steps": 4}}, ["render.steps: is 4, and decoder.loss 'nft' improves the flow, not a sampler of few"]),
    ({"decoder": {"reference": 0}}, ["guards.reference_rise: no alarm, for decoder.reference is 0, and the distance"]),
    ({"decoder": {"reference": 0}, "guards": {"reference_rise": None}}, []),
    (
        {"train": {"steps": 4}},
        [
            "guards.reference_rise: no alarm, for it needs 10 steps of the decoder, and the run has 4",
            "guards.x0_rise: no alarm, for it needs 10 steps of the decoder, and the run has 4",
            "guards.grid_rise: no alarm, for it needs 10 steps, and the run has 4",
            "guards.min_decoder_share: no alarm, for it needs 5 steps, and the run has 4",
        ],
    ),
    (
        {"rollout": {"group_size": 1}},
        [
            "guards.min_decoder_share: rollout.group_size is 1, so no alarm for its share inside a prompt, which",
            "guards.diversity_drop: no alarm, for rollout.group_size is 1",
        ],
    ),
]


@pytest.mark.parametrize(("sections", "sentences"), NOTES, ids=lambda value: str(value)[:40])
def test_notes(sections: dict[str, Any], sentences: list[str]) -> None:
    found = told(**sections)
    assert len(found) == len(sentences)
    assert all(note.startswith(sentence) for note, sentence in zip(found, sentences, strict=True))


REWARD = "rewards.ocr=ocr"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["decoder.lr=1e-3"], "decoder: its keys are for a decoder that learns, and trainers is [ar]; write trainers:"),
        (["trainers=[decoder]", "decoder.lrr=1"], "decoder.lrr: unknown key, did you mean 'lr'?"),
        (["trainers=[decoder]", "decoder.loss.options.bta=1"], "decoder.loss.options.bta: 'nft' has no such option"),
        (["trainers=[decoder]", "decoder.loss=nfd"], "decoder.loss: there is no 'nfd' among the decoder_losses, did"),
        (["trainers=[decoder]", "decoder.lora={targets: []}"], "decoder.lora.targets: must name at least one layer"),
        (["trainers=[]"], "trainers: must name at least one network, each once, got []"),
    ],
)  # fmt: skip
def test_mistakes_in_a_file(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        load(None, [REWARD, "render.renders=2", *overrides])
    assert sentence in str(raised.value)


def test_one_key_of_the_section_brings_the_defaults_of_the_others() -> None:
    config = load(None, [REWARD, "render.renders=2", "trainers=[decoder, ar]", "decoder.loss.options.beta=0.1"])
    assert config.trainers == ("ar", "decoder") and config.decoder is not None
    assert (config.decoder.loss.use, config.decoder.loss.options, config.decoder.lr) == ("nft", {"beta": 0.1}, 1e-4)
    assert load(None, [REWARD, "render.renders=2", "trainers=[decoder]"]).decoder_dtype == "float32"
