"""Answers in words: what the language model may write, and what it has written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from transformers import PreTrainedTokenizerFast

from policy.layout import TokenLayout
from rl.types import Span, UserError, WrittenAnswer

END: Final = "<|im_end|>"
"""Qwen3's own end of a turn; the last token of a complete answer."""
_PICTURE: Final = re.compile(r" ?(<\|vision_start\|>)?\{picture\}(<\|vision_end\|>)?")


def without_picture(template: str) -> str:
    """A template of questions about a picture -> of questions that are text alone."""
    return _PICTURE.sub("", template)


def of_further_turn(template: str) -> str:
    """A template of questions about a picture -> of one that is asked behind an answer and its end: whatever turn
    stands before the question (a chat template's system) has been said."""
    before, question, after = without_picture(template).partition("{prompt}")
    return before.rpartition(END)[2] + question + after


@dataclass(frozen=True)
class Words:
    """``span``: every id but those of pictures, up to a number of tokens of which ``END`` is the last."""

    tokenizer: PreTrainedTokenizerFast
    span: Span

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, layout: TokenLayout, most: int) -> Words:
        """Of one policy. Raises: UserError if its tokenizer has no end."""
        end = tokenizer.get_vocab().get(END)
        if end is None:
            raise UserError(
                f"this policy's tokenizer has no {END}, with which an answer in words ends; choose a policy that was "
                f"trained to answer"
            )
        return cls(tokenizer, layout.words(end, min(most, layout.tokens_per_image)))

    def ids(self, text: str) -> tuple[int, ...]:
        """A text as it is written, with its end."""
        assert self.span.end is not None  # of() has found it
        return (*self.tokenizer.encode(text, add_special_tokens=False), self.span.end)

    def read(self, tokens_BT: Sequence[Sequence[int]]) -> list[WrittenAnswer]:
        """What stands before the end of each row; without an end, all of it, and it is not complete."""
        return [self._read(list(tokens_T)) for tokens_T in tokens_BT]

    def _read(self, tokens_T: list[int]) -> WrittenAnswer:
        complete = self.span.end in tokens_T
        said = tokens_T[: tokens_T.index(self.span.end)] if complete and self.span.end is not None else tokens_T
        return WrittenAnswer(str(self.tokenizer.decode(said)).strip(), complete)
