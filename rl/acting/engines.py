"""The sampling engine of a configuration, in the process that it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from policy.base import Policy
from policy.folder import FEATURES, read_reads
from policy.layout import TokenLayout
from policy.prompt_length import require_room, room_for_prompt
from rl.config.schema import Config
from rl.registry import resolve
from rl.types import Prompt
from rollout.samplers.base import Encode
from rollout.samplers.contract import Sampler
from rollout.samplers.own_process import SamplerProcess


def start_sampler(config: Config, policy: Policy, prompts: list[Prompt], ranks: int = 1) -> Sampler:
    """The configured engine; ``auto`` is vLLM where there is a GPU and it is installed. Beside several ``ranks`` vLLM
    has a process of its own.
    """
    most = longest_prompt(config, policy, prompts)
    return make_sampler(config, policy.folder, policy.layout, policy.encode_prompt, most, ranks)


def longest_prompt(config: Config, policy: Policy, prompts: Sequence[Prompt]) -> int:
    """In tokens. Raises: UserError naming the first that leaves no room for a picture."""
    lengths = [policy.prompt_length(prompt) for prompt in prompts]
    room = room_for_prompt(policy.folder, policy.layout)
    require_room(zip(prompts, lengths, strict=True), room, config.policy.path)
    return max(lengths)


def make_sampler(
    config: Config, folder: Path, layout: TokenLayout, encode: Encode, max_prompt_tokens: int, ranks: int = 1
) -> Sampler:
    """Of the policy in that folder, wherever this process is."""
    engine = config.rollout.engine
    if engine == "auto":
        engine = "vllm" if torch.cuda.is_available() and importlib.util.find_spec("vllm") else "torch"
    compiled = {"compile": True} if config.policy.compile and engine == "torch" else {}  # vLLM has ways of its own
    sleeps = {"sleeps": True} if config.rollout.sleep else {}
    reads = FEATURES in read_reads(folder, config.policy.reads).values()
    features = {"features": True} if engine == "vllm" and reads else {}
    make: Callable[..., Any] = resolve("samplers", engine)
    if engine == "vllm" and ranks > 1:
        make = partial(SamplerProcess, engine)
    sampler: Sampler = make(
        folder,
        layout,
        encode=encode,
        seed=config.run.seed,
        dtype=config.policy.dtype,
        max_prompt_tokens=max_prompt_tokens,
        **{**compiled, **sleeps, **features, **config.rollout.options},
    )
    return sampler
