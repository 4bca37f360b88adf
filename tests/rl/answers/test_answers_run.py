"""A run on questions: the policy answers in words, the same loss learns, and drawings are evaluated beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policy.base import Policy
from policy.shapes.reading import with_reading
from policy.shapes.vocabulary import with_answers
from rl.config.load import load
from rl.preflight.prompts import check_data
from rl.types import UserError
from tests.policy.editing import editing_policy
from tests.rl.run_case import launch, metrics, write_config

_DATA = {
    "train": {"use": "shapes", "options": {"split": "rl", "per_task": 6, "tags": ["ask_exists", "ask_color"]}},
    "eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 3, "tags": ["two_object", "ask_exists"]}},
    "prompts_per_step": 4,
}
_REWARDS = {"answer": {"use": "answer"}, "geneval": {"use": "geneval", "role": "monitor"}}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("policy")
    with_answers(Policy.load(editing_policy(base / "edits"))).save(base / "answers")
    return base / "answers"


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "ranks"), [("codes", 1), ("features", 2)])
def test_questions_are_learnt_from_their_answers(reads: str, ranks: int, policy: Path, tmp_path: Path) -> None:
    """Whether their pictures are read by codes or by features, on one rank or on two."""
    if reads == "features":
        with_reading(Policy.load(policy)).save(tmp_path / "policy")
        policy = tmp_path / "policy"
    rewards = {"length": {"use": "tests.rl.answers.plugins:short"}, "answer": {"use": "answer"}}
    rollout = {"engine": "torch", "group_size": 6, "answer_tokens": 3}
    train = {"steps": 3, "lr": 1e-3, "warmup_steps": 0, "micro_batch": 5}
    evaluated = rewards | {"geneval": {"use": "geneval", "role": "monitor"}}
    config = write_config(tmp_path, policy, data=_DATA, rewards=evaluated, train=train, rollout=rollout)
    done = launch(config, f"train.ranks={ranks}")
    assert done.returncode == 0, done.stderr
    rows = [row for _, row in metrics(tmp_path / "run")]
    assert all(row["mismatch"] < 1e-5 and row["sync_mismatch"] < 1e-4 for row in rows)
    assert all(row.keys() >= {"answer/length", "answer/unended", "detail/answer/complete"} for row in rows)
    assert all(1 <= row["answer/length"] <= 3 and not any("guard/ink" in name for name in row) for row in rows)
    assert all(row["answer/unended"] == pytest.approx(1 - row["detail/answer/complete"]) for row in rows)
    found = (tmp_path / "run" / "evaluation-3.json").read_text()
    assert '"two_object"' in found and '"ask_exists"' in found


def _checked(policy: Path, folder: Path, *typed: str, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_data(load(write_config(folder, policy, **{"data": _DATA, "rewards": _REWARDS, **changes}), typed))
    return str(caught.value)


def test_what_cannot_be_answered_is_told_before_anything_is_loaded(
    policy: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    both = {"use": "shapes", "options": {"split": "rl", "per_task": 6, "tags": ["two_object", "ask_exists"]}}
    assert _checked(policy, tmp_path, data={**_DATA, "train": both}) == (
        "data.train: 6 of 12 prompts are questions that are answered in words, the others ask for pictures, and "
        "nothing says how many of each a step holds; give data.shares, for example {draw: 2, answer: 1}, or train on "
        "the questions in a run of their own"
    )
    assert "is a question, and this policy does not answer in words" in _checked(tiny_policy, tmp_path)
    assert _checked(policy, tmp_path, "policy.reads=features") == (
        f"{policy}: this policy has no understanding branch (its image_tokenizer is of kind patch_vq, not hybrid), so "
        "questions can't read a picture's features; let them read codes (policy.reads: codes), or choose a policy that "
        "has one."
    )
    told = _checked(policy, tmp_path, rewards={"geneval": {"use": "geneval"}, "ink": {"use": "tests.rl.run_case:ink"}})
    assert "is one of 12 questions that are answered in words, and no training reward judges their answers" in told
    told = _checked(policy, tmp_path, rewards={**_REWARDS, "ink": {"use": "tests.rl.run_case:ink"}})
    assert "the reward 'ink' applies to none of the 12 prompts" in told
    assert "all of them questions, and it judges no answers in words" in told
    told = _checked(policy, tmp_path, trainers=["decoder"], render={"renders": 2, "steps": 4})
    assert told == (
        "trainers: data holds questions that are answered in words, and nothing is painted that a decoder learns from; "
        "train ar alone"
    )
    told = _checked(policy, tmp_path, loop={"use": "ahead", "in_turn": True}, eval={"every": 0})
    assert told == (
        "loop.use: data holds questions that are answered in words, and only the serial loop answers them so far; set "
        "it to serial"
    )
