"""The seed of every sample: a hash of run seed, step, prompt and sample index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rl.types import Prompt


def sample_seed(run_seed: int, step: int, prompt_id: str, sample_index: int) -> int:
    """31-bit seed of one sample: a hash, so that ranks, steps, prompts and group members never share one by accident.

    Example: ``sample_seed(0, 3, "p17", 2)`` is the same number on every machine and in every process.
    """
    key = "\x1f".join([str(run_seed), str(step), prompt_id, str(sample_index)])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") & 0x7FFF_FFFF


def group_seeds(run_seed: int, step: int, prompts: Sequence[Prompt], group_size: int) -> tuple[int, ...]:
    """B seeds, group-major. A prompt that occurs twice in one step still gets a different seed for every sample."""
    met: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        first = met.get(prompt.id, 0)
        seeds += [sample_seed(run_seed, step, prompt.id, first + index) for index in range(group_size)]
        met[prompt.id] = first + group_size
    return tuple(seeds)
