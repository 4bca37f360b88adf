"""Drawing, editing and answering in one run: one sampler, one update, each reward for its own task."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from policy.base import Policy
from policy.shapes.vocabulary import with_answers
from rl.config.load import load
from rl.evaluate.__main__ import main as evaluate
from rl.preflight.prompts import check_data
from rl.types import UserError
from tests.policy.editing import editing_policy
from tests.rl.run_case import launch, metrics, write_config


def _source(split: str, per_task: int, *tags: str) -> dict[str, Any]:
    return {"use": "shapes", "options": {"split": split, "per_task": per_task, "tags": list(tags)}}


def _all(split: str, per_task: int) -> dict[str, Any]:
    answers, pictures = _source(split, per_task, "ask_color"), _source(split, per_task, "two_object", "edit_add")
    return {"use": "mixture", "options": {"sources": [answers, pictures]}}


_DATA = {
    "train": _all("rl", 6),
    "eval": _all("heldout", 2),
    "prompts_per_step": 5,
    "shares": {"draw": 2, "edit": 1, "answer": 2},
}
_REWARDS = {
    "ink": {"use": "tests.rl.run_case:ink"},
    "length": {"use": "tests.rl.answers.plugins:short"},
    "answer": {"use": "answer"},
    "edit": {"use": "edit"},
    "geneval": {"use": "geneval"},
}
_CHANGES: dict[str, Any] = {
    "data": _DATA,
    "rewards": _REWARDS,
    "rollout": {"engine": "torch", "group_size": 4, "answer_tokens": 3},
    "train": {"steps": 4, "lr": 1e-3, "warmup_steps": 0, "micro_batch": 3, "updates_per_rollout": 2},
    "groups": {"flat": "skip"},
    "anchor": {"use": "condition"},
    "eval": {"every": 0, "grid": 6},
    "checkpoint": {"every": 2, "experience": True, "keep": 3},
    "tracking": {"console": "plain", "to": [], "pictures_every": 2},
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("policy")
    with_answers(Policy.load(editing_policy(base / "edits"))).save(base / "answers")
    return base / "answers"


@pytest.mark.slow
def test_three_tasks_are_learnt_in_one_run_and_resumed_to_the_last_bit(policy: Path, tmp_path: Path) -> None:
    config, run = write_config(tmp_path, policy, **_CHANGES), tmp_path / "run"
    done = launch(config)
    assert done.returncode == 0, done.stderr
    assert "data.shares: of 5 prompts a step, 2 draw, 1 edit and 2 answer" in done.stderr
    whole = metrics(run)
    for _, row in whole:
        assert row["groups/sampled"] == 5 and row["images"] == 12
        assert row["mismatch"] < 1e-5 and row["answer/mismatch"] < 1e-5 and row["sync_mismatch"] < 1e-4
        assert row["anchor"] >= 0 and "answer/anchor" not in row and 1 <= row["answer/length"] <= 3
        assert row.keys() >= {"score/draw", "score/edit", "score/answer", "guard/render_fidelity", "guard/copied"}
        assert row.keys() >= {"reward/geneval", "reward/edit", "reward/answer", "answer/unended", "answer/entropy"}
    found = {one["task"] for one in json.loads((run / "evaluation-4.json").read_text())["outcomes"]}
    assert found == {"two_object", "edit_add", "ask_color"}
    for reward in ("geneval", "edit", "answer"):
        assert f"<h2>Held-out {reward}: step 0 → 4</h2>" in (run / "report.html").read_text()

    for log in (True, False):  # what step 3 has learnt from is in the log, then not
        shutil.rmtree(run / "checkpoints" / "step-000004", ignore_errors=True)
        for path in [*(run / "checkpoints").glob("*4*"), *(() if log else (run / "experience").glob("*.npz"))]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        again = launch(config, "--resume")
        assert again.returncode == 0, again.stderr
        assert [(step, _own(row)) for step, row in metrics(run)] == [(step, _own(row)) for step, row in whole]

    assert evaluate(["--policy", str(run), "--config", str(config), "--out", str(tmp_path / "measured")]) == 0
    rows = json.loads((tmp_path / "measured" / "evaluation.json").read_text())["rows"]
    assert {row["reward"] for row in rows} >= {"geneval", "edit", "answer"}


def _own(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not name.startswith(("restarts/", "recycled/"))}


def test_what_does_not_fit_a_mixture_is_told_before_anything_is_loaded(policy: Path, tmp_path: Path) -> None:
    def checked(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            check_data(load(write_config(tmp_path, policy, **{**_CHANGES, **changes})))
        return str(caught.value)

    without = {**_DATA, "train": _source("rl", 6, "two_object", "edit_add")}
    assert checked(data=without).startswith("data.shares.answer: data.train has no prompt of that task")
    no_words = {name: one for name, one in _REWARDS.items() if name not in ("length", "answer")}
    assert "6 questions that are answered in words, and no training reward judges" in checked(rewards=no_words)
    words = {**_REWARDS, "ocr": {"use": "ocr", "options": {"detect": False}}}
    assert "the reward 'ocr' applies to none of the 18 prompts: it looks for 'text'" in checked(rewards=words)
