"""What travels between a run and its workers: plain values, small but for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from policy.prompt import Condition
from rl.cluster.packed import PackedRollout
from rl.config.schema import Config
from rl.types import Prompt, Span

if TYPE_CHECKING:
    from rl.collect import Noise

RoleName = Literal["sample", "paint"]
"""Of a worker; also the stage of the scheduler that it serves."""


@dataclass(frozen=True)
class SetsThere:
    """Where the weight sets of a part are, and what they are for."""

    run: str
    """Names the weight store of this start of the run."""
    room: int
    """Bytes of all weight sets that lie there at one time."""
    base: int | None = None
    """Fingerprint of the part's weights in the policy folder; ``None``: whole weights are sent, not adapters for
    those."""
    fetch: Callable[[int, str, int, int], bytes] | None = None
    """Reads (version, file, first byte, how many) of a set on the run's own machine; ``None``: all are there."""


@dataclass(frozen=True)
class WorkerStart:
    """What a worker builds its networks from."""

    config: Config
    ar: SetsThere
    """Of the language model, which all workers follow."""
    max_prompt_tokens: int
    sets: int
    """How many versions jobs may name at one time."""
    tolerance: float
    """Nats by which it and the trainer may disagree about the canary of new weights."""
    decoder: SetsThere | None = None
    """Of the decoder, which painters follow; ``None``: it stays as it is."""


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
    rollout: PackedRollout
    looked_at: Sequence[int] = ()
    """Samples whose pictures are tokenised again."""
    references: Sequence[Any] = ()
    """Of each prompt, where in Ray's object store the picture lies that is to be changed; ``None``: it has none. Empty
    where painters don't look at them."""
    shown: Noise | None = None
    """For people: from this noise, and without what training pictures get on their way."""
    steps: int | None = None
    """Of the decoder; ``None``: as many as ``render.steps``."""
    renders: int | None = None
    """Of each sequence; ``None``: as many as ``render.renders``."""
    drawn: bool = False
    """The way to each picture is wanted as well: a decoder learns from it."""
    decoder: int | None = None
    """Set of the decoder's weights; ``None``: those of the policy folder."""


@dataclass(frozen=True)
class Sampled:
    """``mismatch``: what the worker's canary of its weights said, ``None`` while it has those of the folder."""

    version: int | None
    mismatch: float | None
    seconds: float
    rollout: PackedRollout


@dataclass(frozen=True)
class Painted:
    """Of pictures that come beside it, with the way to each where that was asked for."""

    version: int | None
    seconds: float
    seeds: tuple[int, ...]
    apart: tuple[float, ...]
    """Of each group, the mean |difference| of the painter's log-probs and the sampler's, whose weights are the same."""
    returned: tuple[tuple[int, int], ...]
    """Of each group, how many tokens came back from its pictures that were tokenised again, and of how many."""
    decoder: int | None = None
    """Set of the decoder's weights that painted."""
