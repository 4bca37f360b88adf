"""What supervised learning learns from: a prompt and its picture, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rl.data.pictures import Picture
from rl.types import Prompt

NOT_ASKED = -100
"""A label where nothing is asked."""


@dataclass(frozen=True)
class Example:
    """A prompt and the picture, or the words, that are the right answer to it.

    ``Example(Prompt("7", "two red circles"), Picture(Path("7.jpg")))``; of an edit, the prompt holds the picture that
    is to be changed; ``Example(Prompt("8", "what is a cat?"), None, answer="an animal")`` is text alone.
    """

    prompt: Prompt
    picture: Picture | None
    """``None``: this is text alone."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Loss (``image``, ``text``, ``flow``) -> what this row counts in it, 1 where nothing is said."""
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Head -> (T,) the right class at each image token, or ``NOT_ASKED``."""
    answer: str | None = None
    """Words that are the right answer in place of the picture, which then is the one that is asked about."""
    further: tuple[tuple[str, str], ...] = ()
    """(question, answer) of the turns of a conversation behind that answer."""

    def __post_init__(self) -> None:
        if self.picture is None and (self.answer is None or self.prompt.pictures):
            raise ValueError(
                "an example without a picture is text alone: it has an answer, and no picture in its prompt"
            )
        if self.further and self.answer is None:
            raise ValueError("what is asked further stands behind an answer in words")


class Examples(Protocol):
    """Rows that can be looked up by their number: a function of it alone, so that a resumed run sees the same."""

    @property
    def endless(self) -> bool:
        """Made by their number and never the same again: taken in order. Others are shuffled, epoch after epoch."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know of them, one sentence each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example:
        """Its pictures are not decoded yet. Raises: UserError naming the row if it is no example."""

    def of_run(self, seed: int) -> Examples:
        """For a run with that seed: endless ones are others for each; the order of the rest is the stream's."""

    def digest(self) -> str:
        """The same as long as nothing of them has changed."""


class ExampleStream(Protocol):
    """What each step gets."""

    def at(self, step: int) -> list[Example]:
        """Steps are asked for in order, from 0 or from where ``restore`` has put it."""

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to go on behind the last step that was asked for; JSON."""

    def restore(self, state: Mapping[str, Any]) -> None: ...
