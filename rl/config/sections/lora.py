"""Training of low-rank adapters instead of the weights themselves."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from rl.config.section import Section
from rl.config.values import AtLeastOne, Names, NotNegative, Positive

_MOST = 4096  # a rank beyond is a slipped key


def _off(dropout: float) -> float:
    if dropout:
        raise ValueError(f"must be 0, got {dropout:g}: with dropout the ratio of the first update is not 1")
    return dropout


def some(targets: tuple[str, ...]) -> tuple[str, ...]:
    if not targets or not all(targets) or len(set(targets)) < len(targets):
        raise ValueError(f"must name at least one layer, each once, got {list(targets)}")
    return targets


class LoraSettings(Section):
    """Adapters (LoRA, arXiv 2106.09685): a target W answers W x + alpha / rank * B A x, and W stays as it is."""

    rank: Annotated[AtLeastOne, Field(le=_MOST)] = 16
    """Rank of the adapters."""
    alpha: Positive = 32.0
    """Their scale: alpha / rank."""
    targets: Annotated[Names, AfterValidator(some)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The linear layers that get one, by the ends of their names: ``q_proj``, ``self_attn.q_proj``."""
    dropout: Annotated[NotNegative, AfterValidator(_off)] = 0.0
    """Must be 0."""
