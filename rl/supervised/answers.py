"""Rows that are answered in words: the words stand where others have the tokens of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from policy.base import Policy
from policy.words import Words
from rl.data.examples.contract import Example
from rl.data.prompt_list import name_of
from rl.types import UserError


@dataclass(frozen=True)
class AnswerRows:
    """The answers among examples, as this policy writes them."""

    policy: Policy
    softmax: str
    """``supervised.softmax``."""

    def problem(self, example: Example) -> str | None:
        """Why its answer can't be learnt. Raises: UserError if none could be."""
        if example.answer is None:
            return None
        if self.softmax != "all":
            raise UserError(
                f"supervised.softmax: is {self.softmax}, and {name_of(example.prompt)} is answered in words, which are "
                f"no image tokens; set all"
            )
        length, room = len(self._words.ids(example.answer)), self.policy.layout.tokens_per_image
        return f"its answer has {length} tokens, and there is room for {room}" if length > room else None

    def put(self, examples: Sequence[Example], tokens_BT: Tensor) -> tuple[Tensor, Tensor | None]:
        """``tokens_BT`` with the answers and their ends in place of pictures; and what each token counts among those of
        answers, ``None`` if there are none."""
        asked = [row for row, example in enumerate(examples) if example.answer is not None]
        if not asked:
            return tokens_BT, None
        tokens_BT, counted_BT = tokens_BT.clone(), torch.zeros(tokens_BT.shape)
        for row in asked:
            ids = self._words.ids(str(examples[row].answer))
            tokens_BT[row] = ids[-1]  # to the end of the row, where nothing counts
            tokens_BT[row, : len(ids)] = torch.tensor(ids)
            counted_BT[row, : len(ids)] = 1.0
        return tokens_BT, counted_BT

    @cached_property
    def _words(self) -> Words:
        return Words.of(self.policy.tokenizer, self.policy.layout, self.policy.layout.tokens_per_image)
