"""Questions to learn from, as many as one likes: each is a function of its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rl.data.pictures import Picture
from rl.data.shapes.questions.contents import COARSE_TAGS, DESCRIBE, question_contents
from rl.data.shapes.questions.make import PHRASES, ShapesQuestion, make_question
from rl.types import Prompt

_ROWS_SEED = 37


def _shares() -> dict[str, float]:
    return dict.fromkeys(COARSE_TAGS, 1.0)


@dataclass(frozen=True)
class QuestionRows:
    """``rows[i]`` is (the prompt with its picture, the right answer).

    From row ``bad_from`` on, a share ``mislabelled`` has the answer to another question of the same kind.
    """

    split: str = "train"
    shares: Mapping[str, float] = field(default_factory=_shares)
    """Kind -> how often; they need not add up to 1."""
    mislabelled: float = 0.0
    bad_from: int = 0
    seed: int = 0

    def __getitem__(self, index: int) -> tuple[Prompt, str]:
        one = self.question(index)
        prompt = Prompt(f"questions-{self.seed}-{index}", one.text, one.metadata(), (Picture(one.picture),))
        return replace(prompt, source=f"questions:{index}"), one.answer

    def question(self, index: int) -> ShapesQuestion:
        """The same with its scene."""
        rng = np.random.default_rng([self.seed, _ROWS_SEED, index])
        tags, weights = list(self.shares), np.array(list(self.shares.values()), float)
        tag = tags[rng.choice(len(tags), p=weights / weights.sum())]
        contents = question_contents(tag, self.split)
        content = contents[rng.integers(len(contents))]
        one = make_question(content, rng, int(rng.integers(len(PHRASES[tag]))))
        if tag != DESCRIBE and index >= self.bad_from and rng.random() < self.mislabelled:
            return replace(one, answer=contents[rng.integers(len(contents))].answer)
        return one
