"""A tiny random policy that reads the pictures of questions by features."""

from __future__ import annotations

from pathlib import Path

from policy.base import Policy
from policy.shapes.reading import with_reading
from policy.shapes.vocabulary import with_answers
from tests.policy.editing import editing_policy


def reading_policy(folder: Path) -> Path:
    """Of the same language model as ``editing_policy``."""
    with_reading(with_answers(Policy.load(editing_policy(folder / "edits")))).save(folder / "reads")
    return folder / "reads"
