"""What of a policy a supervised run trains, counted from headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policy.base import Policy
from rl.config.schema import Config
from rl.config.sections.supervised import SupervisedConfig
from rl.preflight.supervised import supervised_parameters
from rl.types import UserError
from tests.policy.reading import reading_policy


def test_an_understanding_branch_is_counted_and_missed(tiny_policy: Path, tmp_path: Path) -> None:
    folder = reading_policy(tmp_path)

    def count(policy: Path, **keys: Any) -> int:
        return supervised_parameters(Config(), SupervisedConfig(**keys), policy)

    width, reads = 4 * 96, 96
    adapter = width * reads + reads + reads * reads + reads
    assert count(folder, trained=("understanding.continuous",)) == adapter
    whole = Policy.load(folder).understanding.encoder
    assert count(folder, trained=("understanding",)) == sum(one.numel() for one in whole.parameters())
    for keys, key in (
        ({"trained": ("understanding",)}, "trained"),
        ({"features": 0.5}, "features"),
        ({"losses": {"reading": 1.0}}, "losses"),
    ):
        with pytest.raises(UserError) as told:
            count(tiny_policy, **keys)
        assert str(told.value) == (
            f"supervised.{key}: the policy {str(tiny_policy)!r} has no understanding branch (its image_tokenizer is of "
            "kind patch_vq, not hybrid); choose a policy that has one, or leave it out"
        )
