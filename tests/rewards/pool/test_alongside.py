"""Rewards that start while something else goes on."""

from __future__ import annotations

import pytest

from rewards.pool.alongside import rewards_starting
from rl.config.schema import Config, RewardComponent
from rl.types import UserError
from tests.rewards.pool.test_pool import PLUGINS


def test_rewards_start_beside_the_rest_and_are_closed_with_it() -> None:
    config = Config(rewards={"b": RewardComponent(use=f"{PLUGINS}:bright")})
    with rewards_starting(config) as starting:
        assert len(starting.result(timeout=60).pids["b"]) == 1
    with pytest.raises(RuntimeError, match="the reward pool is closed"):
        starting.result().submit([])


def test_a_reward_that_cannot_be_loaded_is_told_where_it_is_waited_for() -> None:
    config = Config(rewards={"b": RewardComponent(use=f"{PLUGINS}:nothing_there")})
    with rewards_starting(config) as starting, pytest.raises(UserError, match="nothing_there"):
        starting.result(timeout=60)
