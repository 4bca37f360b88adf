"""Rows that are answered in words: the words stand where others have the tokens of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from policy.base import Policy
from policy.words import Words, of_further_turn, without_picture
from rl.data.examples.contract import Example
from rl.data.prompt_list import name_of
from rl.data.tasks import no_answers
from rl.types import Prompt, UserError


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
        length, room = len(self._ids(example)[0]), self.policy.layout.tokens_per_image
        what = "what follows its first question" if example.further else "its answer"
        return f"{what} has {length} tokens, and there is room for {room}" if length > room else None

    def put(self, examples: Sequence[Example], tokens_BT: Tensor) -> tuple[Tensor, Tensor | None]:
        """``tokens_BT`` with the answers and their ends in place of pictures; and what each token counts among those of
        answers, ``None`` if there are none."""
        asked = [row for row, example in enumerate(examples) if example.answer is not None]
        if not asked:
            return tokens_BT, None
        tokens_BT, counted_BT = tokens_BT.clone(), torch.zeros(tokens_BT.shape)
        for row in asked:
            ids, learnt = self._ids(examples[row])
            tokens_BT[row] = ids[-1]  # to the end of the row, where nothing counts
            tokens_BT[row, : len(ids)] = torch.tensor(ids)
            counted_BT[row, : len(ids)] = torch.tensor(learnt)
        return tokens_BT, counted_BT

    def opening(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a question that is text alone. Raises: UserError if this policy does not answer."""
        return self._asked(without_picture(self._template(prompt)), prompt.text)

    def _ids(self, example: Example) -> tuple[list[int], list[float]]:
        """All behind the first question, and 1 where it is learnt: in answers and their ends."""
        ids = list(self._words.ids(str(example.answer)))
        learnt = [1.0] * len(ids)
        for question, answer in example.further:
            asked, said = (
                self._asked(of_further_turn(self._template(example.prompt)), question),
                self._words.ids(answer),
            )
            ids += [*asked, *said]
            learnt += [*[0.0] * len(asked), *[1.0] * len(said)]
        return ids, learnt

    def _template(self, prompt: Prompt) -> str:
        found = self.policy.task_templates.get("answer")
        if found is None:
            raise no_answers(prompt)
        return found

    def _asked(self, template: str, question: str) -> tuple[int, ...]:
        filled = template.replace("{prompt}", question)
        return tuple(self.policy.tokenizer.encode(filled, add_special_tokens=False))

    @cached_property
    def _words(self) -> Words:
        return Words.of(self.policy.tokenizer, self.policy.layout, self.policy.layout.tokens_per_image)
