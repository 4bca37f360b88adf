"""Rewards of answers that a random policy gets in different amounts."""

from __future__ import annotations

from collections.abc import Sequence

from rl.config.declared import declares
from rl.types import Sample


@declares(answers=True)
def short(samples: Sequence[Sample]) -> list[float | None]:
    """Few letters; nothing of pictures."""
    return [None if one.answer is None else -float(len(one.answer.text)) for one in samples]
