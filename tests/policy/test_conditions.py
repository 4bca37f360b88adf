"""What a decoder reads is named in ``policy.json``; a kind that is not built is told before anything is missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy.base import Policy
from policy.conditions import read_condition
from policy.folder import read_policy_config
from rl.types import UserError


def test_every_folder_that_is_written_names_its_kind(tiny_policy: Path, tmp_path: Path) -> None:
    Policy.load(tiny_policy).save(tmp_path / "saved")
    for folder in (tiny_policy, tmp_path / "saved"):
        assert json.loads((folder / "policy.json").read_text())["condition"] == "ar_hidden"


def test_an_older_folder_says_nothing_and_means_hidden_states() -> None:
    assert read_condition({"layout": {}}, "p/policy.json") == "ar_hidden"


def test_a_kind_of_another_family_is_told_before_its_missing_connector(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps({"condition": "token_ids", "grid": "any"}))
    with pytest.raises(UserError) as caught:
        read_policy_config(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/policy.json: condition is 'token_ids' (the decoder embeds the tokens' ids itself, as in "
        "GLM-Image), which is not built yet; ar_hidden is, and policy/README.md says what is missing for the others."
    )


def test_a_kind_that_nobody_knows_is_named() -> None:
    with pytest.raises(UserError) as caught:
        read_condition({"condition": "token_id"}, "p/policy.json")
    assert str(caught.value) == (
        "p/policy.json: there is no condition 'token_id', did you mean 'token_ids'? write ar_hidden or leave the key "
        "out."
    )
    with pytest.raises(UserError, match=r"^p: there is no condition 'x'; write ar_hidden or leave the key out\.$"):
        read_condition({"condition": "x"}, "p")
