"""What the pool and its workers say to each other. A worker's own Python may have no pydantic: plain dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewards.needs import Needs
from rewards.pool.shared_memory import SharedSample
from rl.types import Score


@dataclass(frozen=True)
class Start:
    """Load this reward. ``needs`` hold for this worker, ``declared`` is what was read from the reward's source;
    with ``probe`` it scores its own reference pictures first. ``threads``: of its libraries, if ``needs`` has none.
    ``recycle_growth_mb``: growth since its first reply, MiB, at which it says so."""

    name: str
    use: str
    options: Mapping[str, object]
    needs: Needs
    declared: Needs
    probe: bool
    threads: int | None
    recycle_growth_mb: float


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

    def explain(self, start: Start) -> str:
        """The sentence, with a hint where the reward was not given the GPU that it asks CUDA for."""
        if start.needs.gpus == 0 and ("cuda" in self.message.lower() or "nvidia" in self.message.lower()):
            return f"{self.message}; this reward is given no GPU, set rewards.{start.name}.gpus to its share of one"
        return self.message


@dataclass(frozen=True)
class WorkerRequest:
    """Score these; the descriptor of the memory with their pictures and arrays follows."""

    number: int
    samples: Sequence[SharedSample]


@dataclass(frozen=True)
class WorkerReply:
    """The scores of request ``number``, with the ids they belong to."""

    number: int
    ids: tuple[str, ...]
    scores: Sequence[Score]
    grown: bool
    """The worker leaks memory and should be replaced."""
    kept: bool = False
    """The reward still holds arrays of this request."""


def checked_reply(reply: object, number: int, ids: Sequence[str]) -> WorkerReply:
    """Raises ``ValueError`` unless ``reply`` is to request ``number`` about the samples ``ids``, a score for each."""
    if not isinstance(reply, WorkerReply) or (reply.number, reply.ids) != (number, tuple(ids)):
        raise ValueError("answered for other samples than it was asked about")
    if len(reply.scores) != len(ids):
        raise ValueError(f"answered {len(reply.scores)} scores for {len(ids)} samples")
    return reply
