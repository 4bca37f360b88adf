"""Shares of tasks and weights of modalities: what a configuration may say, and each mistake as a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rl.config.load import load
from rl.config.rules import check, notes
from rl.config.schema import Config
from rl.types import UserError


def a_config(shares: object = None, **changes: Any) -> dict[str, Any]:
    data = {"prompts_per_step": 8, "shares": shares or {"draw": 2, "edit": 1, "answer": 1}, **changes.pop("data", {})}
    return {"rewards": {"geneval": {"use": "geneval"}}, "data": data, **changes}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"shares": {"draw": 1, "edit": 0}}, "data.shares.edit: must be greater than 0, got 0"),
        ({"shares": {"draw": 1, "edt": 1}}, "data.shares.edt: unknown key, did you mean 'edit'?"),
        ({"shares": {"draw": None}}, "data.shares: must give a share to one task at least (draw, edit, answer)"),
        ({"modality_weights": {"text": 0}}, "modality_weights.text: must be greater than 0, got 0"),
        ({"modality_weights": {"words": 1}}, "modality_weights.words: unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_key(tmp_path: Path, changes: dict[str, Any], wrong: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(a_config(**changes)))
    with pytest.raises(UserError) as caught:
        load(path)
    assert wrong in str(caught.value)


def broken(**changes: Any) -> dict[str, str]:
    return dict(check(Config.model_validate(a_config(**changes))))


def test_what_would_change_the_numbers_of_a_step_is_refused() -> None:
    fixed = "and data.shares fixes how many prompts of each task a step has; leave one of them out"
    assert broken() == {}
    assert (
        broken(data={"curriculum": {"use": "failure"}})["data.curriculum"] == f"draws tasks by their success, {fixed}"
    )
    assert broken(groups={"flat": "resample"})["groups.flat"] == f"samples further prompts, {fixed}"
    assert broken(groups={"sizes": {"use": "neyman"}})["groups.sizes"] == f"shares samples out by success, {fixed}"
    assert broken(groups={"flat": "skip"}) == {}
    assert broken(data={"prompts_per_step": 2})["data.prompts_per_step"] == (
        "is 2, and data.shares names 3 tasks, of which each step has one prompt at least; raise it, or leave tasks out"
    )


def test_a_note_says_what_a_step_holds() -> None:
    told = list(notes(Config.model_validate(a_config())))
    assert "data.shares: of 8 prompts a step, 4 draw, 2 edit and 2 answer" in told
