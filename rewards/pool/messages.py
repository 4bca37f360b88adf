"""What the pool and its workers say to each other, and what makes an answer wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.needs import Needs
from rewards.pool.shared_memory import Item
from rewards.pool.submission import Ticket
from rl.types import Score


def mistake(answer: object, number: int, ticket: Ticket) -> str | None:
    """What is wrong with an answer: the ids and the number must be those that were asked about."""
    wanted = tuple(sample.id for sample in ticket.samples)
    if not isinstance(answer, Answer) or (answer.number, answer.ids) != (number, wanted):
        return "answered for other samples than it was asked about"
    if len(answer.scores) != len(wanted):
        return f"answered {len(answer.scores)} scores for {len(wanted)} samples"
    return None


def refusal(start: Start, reply: Refused) -> str:
    """The worker's sentence, with a hint where the reward was not given the GPU that it asks CUDA for."""
    if start.needs.gpus == 0 and ("cuda" in reply.message.lower() or "nvidia" in reply.message.lower()):
        return f"{reply.message}; this reward is given no GPU, set rewards.{start.name}.gpus to its share of one"
    return reply.message


@dataclass(frozen=True)
class Start:
    """Load this reward. ``needs`` hold for this worker, ``declared`` is what was read from the reward's source;
    with ``probe`` it scores its own reference pictures first. ``threads``: of its libraries, if ``needs`` has none.
    ``recycle_growth_mb``: growth since its first answer, MiB, at which it says so."""

    name: str
    use: str
    options: Mapping[str, Any]
    needs: Needs
    declared: Needs
    probe: bool = True
    threads: int | None = None
    recycle_growth_mb: float = math.inf


@dataclass(frozen=True)
class Ready:
    """The reward is loaded. ``version`` changes when its code does; ``probed``: it scored reference pictures well."""

    pid: int
    version: str
    probed: bool


@dataclass(frozen=True)
class Refused:
    """The reward cannot be loaded: a sentence for the user."""

    message: str


@dataclass(frozen=True)
class Job:
    """Score these; the descriptor of their pictures and arrays follows."""

    number: int
    items: Sequence[Item]


@dataclass(frozen=True)
class Answer:
    """The scores of job ``number``, with the ids they belong to; ``grown``: the worker leaks and should be replaced."""

    number: int
    ids: tuple[str, ...]
    scores: Sequence[Score]
    grown: bool
    kept: bool = False
    """The reward still holds pictures of this job."""
