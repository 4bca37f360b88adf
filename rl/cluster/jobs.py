"""What travels between a run and its workers: plain values, small but for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from policy.prompt import Condition
from rl.config.schema import Config
from rl.types import Prompt, Rollout, Span

RoleName = Literal["sample", "paint"]
"""Of a worker; also the stage of the scheduler that it serves."""


@dataclass(frozen=True)
class WorkerStart:
    """What a worker builds its networks from."""

    config: Config
    run: str
    """Names the weight store of this start of the run."""
    room: int
    """Bytes of all weight sets that lie there at one time."""
    max_prompt_tokens: int
    sets: int
    """How many versions jobs may name at one time."""
    tolerance: float
    """Nats by which it and the trainer may disagree about the canary of new weights."""
    base: int | None = None
    """Fingerprint of the language model's weights in the policy folder; ``None``: whole weights are sent, not adapters
    for those."""
    fetch: Callable[[int, str, int, int], bytes] | None = None
    """Reads (version, file, first byte, how many) of a set on the run's own machine; ``None``: all are there."""


def bare(prompt: Prompt) -> Prompt:
    """What a worker needs to know of it: no text, no pictures, no metadata."""
    return Prompt(prompt.id, "")


@dataclass(frozen=True)
class SampleJob:
    """``group_size`` sequences for each of P prompts, from as many seeds. Prompts are encoded where the run is."""

    prompts: Sequence[Prompt]
    """Known by their ids alone."""
    conditions: Sequence[Condition]
    group_size: int
    seeds: Sequence[int]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    span: Span | None = None


@dataclass(frozen=True)
class PaintJob:
    """Pictures of these sequences as they are painted in that step."""

    step: int
    rollout: Rollout


@dataclass(frozen=True)
class Sampled:
    """``mismatch``: what the worker's canary of its weights said, ``None`` while it has those of the folder."""

    version: int | None
    mismatch: float | None
    seconds: float
    rollout: Rollout


@dataclass(frozen=True)
class Painted:
    """Of pictures that come beside it."""

    version: int | None
    seconds: float
    seeds: tuple[int, ...]
    apart: tuple[float, ...]
    """Of each group, the mean |difference| of the painter's log-probs and the sampler's, whose weights are the same."""
