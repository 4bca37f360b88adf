"""Edits to learn from, as many as one likes: each is a function of its number, so that a resumed run sees the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rl.data.pictures import Picture
from rl.data.shapes.edits.contents import EDIT_TAGS, EditContent, edit_contents
from rl.data.shapes.edits.example import EditExample
from rl.data.shapes.edits.make import make_edit
from rl.data.shapes.edits.prompts import PHRASINGS
from rl.types import Prompt

KEEP_SHARE = 0.1  # "leave the picture as it is": to repeat a picture comes before to change it
_ROWS_SEED = 29


def _shares() -> dict[str, float]:
    return {**dict.fromkeys(EDIT_TAGS, (1 - KEEP_SHARE) / len(EDIT_TAGS)), "edit_keep": KEEP_SHARE}


@dataclass(frozen=True)
class EditRows:
    """``rows[i]`` is (the prompt with its picture, the right answer).

    From row ``bad_from`` on, a share ``mislabelled`` has the instruction of another edit of the same operation: a model
    that has learnt to obey ends doing so part of the time, which is RL's to repair.
    """

    split: str = "train"
    shares: Mapping[str, float] = field(default_factory=_shares)
    """Operation -> how often; they need not add up to 1."""
    mislabelled: float = 0.0
    bad_from: int = 0
    seed: int = 0

    def __getitem__(self, index: int) -> tuple[Prompt, Picture]:
        one = self.example(index)
        prompt = Prompt(f"edits-{self.seed}-{index}", one.instruction, one.metadata(), (Picture(one.before),))
        return replace(prompt, source=f"edits:{index}"), Picture(one.after)

    def example(self, index: int) -> EditExample:
        """The same with its scenes."""
        rng = np.random.default_rng([self.seed, _ROWS_SEED, index])
        tags, weights = list(self.shares), np.array(list(self.shares.values()), float)
        tag = tags[rng.choice(len(tags), p=weights / weights.sum())]
        one = self._drawn(tag, rng)
        if index >= self.bad_from and rng.random() < self.mislabelled:
            return replace(one, instruction=self._drawn(tag, rng).instruction)
        return one

    def _drawn(self, tag: str, rng: np.random.Generator) -> EditExample:
        contents = edit_contents(tag, self.split)
        content: EditContent = contents[rng.integers(len(contents))]
        return make_edit(content, self.split, rng, int(rng.integers(PHRASINGS)))
