"""How the rows of questions read their pictures: some the codes, others features that are made while learning
(Manzano, arXiv 2509.16197), so that the language model answers from both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.base import Policy
from policy.prompt import Condition, PromptEncoder
from rl.config.sections.supervised import SupervisedConfig
from rl.data.examples.contract import Example
from rl.data.tasks import is_question
from rl.supervised.answers import AnswerRows
from rl.types import PictureFeatures


@dataclass
class PictureReading:
    """Prompts of rows, and the pixels that the understanding branch makes features of."""

    policy: Policy
    options: SupervisedConfig
    answers: AnswerRows

    @property
    def looks(self) -> bool:
        """Whether pixels are looked at."""
        return self.options.understanding is not None

    def __call__(self, example: Example, drawn: float) -> Condition:
        """``drawn``: between 0 and 1, which says how its picture is read. Its features, if any, have no numbers yet."""
        if example.picture is None:
            return Condition(self.answers.opening(example.prompt))
        by_features = is_question(example.prompt) and drawn < self.options.features
        return (self._of_features if by_features else self._of_codes)(example.prompt)

    def pixels(self, pictures_BHW3: NDArray[np.uint8]) -> Tensor | None:
        """As the branch sees them."""
        return self.policy.understanding.pixels(pictures_BHW3) if self.looks else None

    @cached_property
    def _of_codes(self) -> PromptEncoder:
        return self.policy.encoder_of({})

    @cached_property
    def _of_features(self) -> PromptEncoder:
        nothing = torch.zeros(self.policy.layout.tokens_per_image, 0)
        return self.policy.encoder_of({"answer": lambda picture: nothing})


def features_of(conditions: Sequence[Condition]) -> tuple[PictureFeatures | None, ...] | None:
    """Of all rows; ``None`` if none has any."""
    found = tuple(one.features for one in conditions)
    return found if any(found) else None
