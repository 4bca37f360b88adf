"""The rewards of a command that samples and paints in its own process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from rewards.pool.pool import RewardPool
from rl.config.schema import Config


def start_rewards(config: Config) -> RewardPool:
    """Beside one busy process, this one."""
    return RewardPool(config.rewards, config.reward_pool, other_processes=1)


@contextmanager
def rewards_starting(config: Config) -> Iterator[Future[RewardPool]]:
    """Their processes load while this one imports torch and starts its engines; ``result()`` waits for them, or raises
    why there are none. Leaving closes them.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="rewards") as starter:
        pool = starter.submit(start_rewards, config)
        try:
            yield pool
        finally:
            if not pool.exception():
                pool.result().close()
