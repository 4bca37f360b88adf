"""Where a run samples and paints: what it asks of such a place, and this process as one. ``rl.cluster`` is another."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from policy.base import Policy
from policy.layout import TokenLayout
from policy.prompt_length import require_room, room_for_prompt
from rl.algorithm.answers import component
from rl.collect import Collect
from rl.collectors import Collector, Selective, Serial
from rl.config.schema import Config
from rl.data.drawing.draws import PromptDraws
from rl.data.stream import PromptStream
from rl.registry import resolve
from rl.types import Prompt
from rollout.samplers.base import Encode
from rollout.samplers.contract import Sampler
from rollout.samplers.own_process import SamplerProcess
from rollout.sync import WeightChannel, WeightSync


class Acting(Protocol):
    """Where a run samples and paints."""

    def start_sampler(self, config: Config, policy: Policy, prompts: list[Prompt], ranks: int) -> Sampler: ...

    def collector(
        self,
        config: Config,
        act: Collect,
        prompts: Sequence[Prompt],
        draws: PromptDraws | None,
        tell: Callable[[str], None],
    ) -> Collector:
        """``draws``: where what was scored has a say in which prompts come; ``tell``: hears sentences for whoever
        watches the run."""

    def weights_out(self, config: Config, sampler: Sampler, tolerance: float) -> WeightChannel:
        """Into ``sampler`` and whoever else follows; ``tolerance`` in nats."""


class ActingHere:
    """In this process, in turn with the updates."""

    def start_sampler(self, config: Config, policy: Policy, prompts: list[Prompt], ranks: int) -> Sampler:
        return start_sampler(config, policy, prompts, ranks)

    def collector(
        self,
        config: Config,
        act: Collect,
        prompts: Sequence[Prompt],
        draws: PromptDraws | None,
        tell: Callable[[str], None],
    ) -> Collector:
        return start_collector(config, act, prompts, draws)

    def weights_out(self, config: Config, sampler: Sampler, tolerance: float) -> WeightChannel:
        enabled, asks_before = config.sync.enabled, config.rollout.sleep == 0
        return WeightSync([sampler], tolerance=tolerance, enabled=enabled, asks_before=asks_before)


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
        **{**compiled, **sleeps, **config.rollout.options},
    )
    return sampler


def start_collector(config: Config, act: Collect, prompts: Sequence[Prompt], draws: PromptDraws | None) -> Collector:
    per_step, seed, groups = config.data.prompts_per_step, config.run.seed, config.groups
    if draws is None:
        return Serial(act, PromptStream(prompts, per_step, seed), seed)
    sizes = component("group_sizes", groups.sizes) if groups.sizes else None
    return Selective(act, draws, seed, per_step, groups.most_prompts(per_step), sizes, groups.unit)
