"""The schema itself: strictness, defaults, documentation, rules across sections."""

from __future__ import annotations

import ast
import inspect

import pytest
from pydantic import ValidationError

from rl.config import schema
from rl.config.rules import check, notes
from rl.config.schema import (
    COMPONENT_KINDS,
    Component,
    Config,
    RewardComponent,
    TrainConfig,
    component_kind,
    components,
)
from rl.registry import BUILT_IN, locate


def run(**sections: object) -> Config:
    return Config.model_validate({"rewards": {"geneval": {"use": "geneval"}}, **sections})


def broken(**sections: object) -> dict[str, str]:
    return dict(check(run(**sections)))


def test_every_field_has_a_docstring() -> None:
    for model in ast.parse(inspect.getsource(schema)).body:
        if not isinstance(model, ast.ClassDef):
            continue
        assert ast.get_docstring(model), model.name
        for field, following in zip(model.body, [*model.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                assert documented, f"{model.name}.{ast.unparse(field.target)} has no docstring below it"


def test_sections_are_frozen_and_strict() -> None:
    train = TrainConfig()
    with pytest.raises(ValidationError, match="frozen"):
        train.lr = 1.0  # type: ignore[misc]
    for wrong in ({"steps": 1.5}, {"steps": "3"}, {"steps": True}, {"lr": "1e-4"}, {"lr": float("nan")}, {"stps": 3}):
        with pytest.raises(ValidationError):
            TrainConfig.model_validate(wrong)


def test_a_whole_number_is_a_fine_float() -> None:
    assert TrainConfig.model_validate({"lr": 1, "betas": [0, 0.5]}).betas == (0, 0.5)


@pytest.mark.parametrize(
    ("word", "value"), [("off", False), ("no", False), ("on", True), ("Yes", True), (False, False)]
)
def test_words_for_booleans(word: object, value: bool) -> None:
    assert run(eval={"at_end": word}).eval.at_end is value


def test_a_number_is_no_boolean() -> None:
    with pytest.raises(ValidationError):
        run(eval={"at_end": 1})


def test_default_components_exist() -> None:
    for _, kind, component in components(Config()):
        locate(kind, component.use)
    assert set(COMPONENT_KINDS.values()) <= set(BUILT_IN)


def test_component_places() -> None:
    assert component_kind(("rewards", "anything")) == "rewards"
    assert component_kind(("data", "eval")) == "prompts"
    assert component_kind(("rewards",)) is None
    assert component_kind(("data", "train", "options")) is None
    paths = [path for path, _, _ in components(run(kl=None))]
    assert ("rewards", "geneval") in paths
    assert ("kl",) not in paths


def test_a_sound_run_breaks_no_rule() -> None:
    assert broken() == {}


def test_truncated_sampling_is_for_evaluation_only() -> None:
    wrong = broken(rollout={"top_p": 0.9, "top_k": 50})
    assert wrong["rollout.top_p"].startswith("must be 1 while training, got 0.9")
    assert "biases the ratio" in wrong["rollout.top_p"]
    assert wrong["rollout.top_k"].startswith("must be 0 (off) while training, got 50")
    assert broken(rollout={"top_p": 0.9, "top_k": 50}, train={"steps": 0}) == {}


def test_rewards_must_teach_something() -> None:
    assert "at least one reward" in dict(check(Config()))["rewards"]
    monitor = {"a": {"use": "ocr", "role": "monitor"}}
    assert "role: monitor" in broken(rewards=monitor)["rewards"]
    assert broken(rewards=monitor, train={"steps": 0}) == {}
    assert "trains nothing" in broken(rewards={"a": {"use": "ocr", "weight": 0.0}})["rewards.a.weight"]
    assert "letters, digits" in broken(rewards={"a b": {"use": "ocr"}})["rewards.a b"]


@pytest.mark.parametrize("advantage", ["grpo", "dr_grpo", "rloo"])
def test_a_group_of_one_has_no_advantage(advantage: str) -> None:
    wrong = broken(rollout={"group_size": 1}, advantage={"use": advantage})
    assert "needs at least 2, got 1" in wrong["rollout.group_size"]
    assert broken(rollout={"group_size": 1}, advantage={"use": "my:own"}) == {}


def test_batch_norm_is_gdpos() -> None:
    message = broken(advantage={"use": "batch_norm"})["advantage.use"]
    assert message == (
        "batch_norm compares a sample with other prompts' samples, so with combine: mean easy prompts would be "
        "rewarded; write combine: gdpo, or advantage: grpo"
    )
    assert broken(advantage={"use": "batch_norm"}, combine={"use": "gdpo"}) == {}


def test_a_scale_rises() -> None:
    assert RewardComponent.model_validate({"use": "ocr", "scale": [18, 23.0]}).scale == (18.0, 23.0)
    with pytest.raises(ValidationError, match=r"must be \[low, high\] with low below high, got \[1.0, 1.0\]"):
        RewardComponent.model_validate({"use": "ocr", "scale": [1.0, 1.0]})


def test_updates_split_the_samples_evenly() -> None:
    sections = {"data": {"prompts_per_step": 3}, "rollout": {"group_size": 4}}
    assert broken(train={"updates_per_rollout": 6}, **sections) == {}
    assert (
        "5 does not divide the 12 samples"
        in broken(train={"updates_per_rollout": 5}, **sections)["train.updates_per_rollout"]
    )


def test_every_rank_gets_a_sample_of_an_update() -> None:
    sections = {"data": {"prompts_per_step": 3}, "rollout": {"group_size": 4}}
    assert broken(train={"ranks": 6, "updates_per_rollout": 2}, **sections) == {}
    wrong = broken(train={"ranks": 8, "updates_per_rollout": 2}, **sections)["train.ranks"]
    assert wrong.startswith("8 ranks can't share the 6 samples of an update (data.prompts_per_step 3 x rollout.group")
    assert wrong.endswith("train.updates_per_rollout 2); lower train.ranks, or give a step more samples")


def test_samples_that_do_not_divide_by_the_ranks_are_a_note() -> None:
    sections = {"data": {"prompts_per_step": 3}, "rollout": {"group_size": 4}}
    assert list(notes(run(train={"ranks": 4}, **sections))) == []
    assert list(notes(run(train={"ranks": 5}, **sections))) == [
        "train.ranks: 12 samples of an update don't divide by 5 ranks, so 3 more are computed each time that count "
        "nothing"
    ]


def test_sharded_weights_are_not_compiled() -> None:
    wrong = broken(policy={"compile": True}, train={"zero_stage": 3})
    assert wrong["policy.compile"].startswith("sharded weights (train.zero_stage: 3) are not compiled; use stage 2")
    assert broken(policy={"compile": True}, train={"zero_stage": 2}) == {}


def test_reinforce_is_on_policy() -> None:
    wrong = broken(loss={"use": "reinforce"}, train={"updates_per_rollout": 2})
    assert "has no ratio, so it must be 1" in wrong["train.updates_per_rollout"]


def test_the_warm_up_is_clipped_to_a_run_with_a_cosine() -> None:
    short = run(train={"steps": 5, "warmup_steps": 10, "schedule": "cosine"})
    assert list(check(short)) == []
    assert (short.train.warmup_steps, short.train.warmup_in(5)) == (10, 4)
    assert list(notes(short)) == [
        "train.warmup_steps: 10 is clipped to 4, because the run has only 5 optimiser steps and the cosine needs one"
    ]
    longer = run(train={"steps": 100, "warmup_steps": 10, "schedule": "cosine"})
    assert (longer.train.warmup_in(100), list(notes(longer))) == (10, [])
    # optimiser steps are counted, not rollouts
    assert TrainConfig(warmup_steps=12, updates_per_rollout=2, schedule="cosine").warmup_in(5) == 9
    # a constant rate knows no end, so a run may end inside its warm-up and go on from there
    assert TrainConfig(warmup_steps=10).warmup_in(5) == 10
    for steps in (0, 1):
        assert TrainConfig(schedule="cosine").warmup_in(steps) == 0
    # a run of 5 steps that goes on to 100 has the warm-up that was written
    assert short.train.warmup_in(100) == 10
    assert list(notes(run(train={"steps": 0, "schedule": "cosine"}))) == []


def test_a_run_of_nothing_is_refused() -> None:
    none = {"train": {"steps": 0}}
    assert broken(**none) == {}
    assert "data.eval is null, so there is nothing to do" in broken(**none, data={"eval": None})["train.steps"]
    off = {"at_start": False, "at_end": False}
    assert "eval.at_start and eval.at_end are off" in broken(**none, eval=off)["train.steps"]
    assert broken(**none, eval={"at_start": False}) == {}
    assert broken(data={"eval": None}) == {}


def test_a_step_that_no_machine_holds() -> None:
    wrong = broken(data={"prompts_per_step": 10**5}, rollout={"group_size": 10**5}, render={"renders": 2})
    assert wrong["rollout.group_size"].startswith("a step would hold 20,000,000,000 pictures (data.prompts_per_step")


@pytest.mark.parametrize("value", [float("nan"), -0.5, float("inf"), True, "1"])
def test_numbers_in_options(value: object) -> None:
    wrong = broken(kl={"use": "k3", "options": {"beta": value}})
    assert wrong["kl.options.beta"] == f"must be a number that is not negative, got {value!r}"
    assert broken(kl={"use": "k3", "options": {"beta": -0.0}}) == {}


def test_nan_is_no_number_in_any_option() -> None:
    wrong = broken(rewards={"mine": {"use": "my:own", "options": {"target": float("nan"), "cap": float("inf")}}})
    assert wrong == {"rewards.mine.options.target": "is .nan, which is no number"}


@pytest.mark.parametrize("beta", [-1, "much", True])
def test_beta_is_a_number(beta: object) -> None:
    assert "not negative" in broken(kl={"use": "k3", "options": {"beta": beta}})["kl.options.beta"]


def test_a_reward_is_a_component_with_weight_and_role() -> None:
    reward = RewardComponent(use="ocr")
    assert isinstance(reward, Component)
    assert (reward.weight, reward.role) == (1.0, "train")
