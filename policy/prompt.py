"""Prompt text -> the token ids that the language model goes on from."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from policy.layout import TokenLayout


@dataclass
class PromptEncoder:
    """Prompt text -> token ids that end with <im_start> <S0>."""

    tokenizer: PreTrainedTokenizerFast
    template: str
    layout: TokenLayout

    def __call__(self, text: str) -> tuple[int, ...]:
        ids = self.tokenizer.encode(self.template.format(prompt=text), add_special_tokens=False)
        return (*ids, self.layout.im_start_id, self.layout.scale_id)

    def unknown_words(self, text: str) -> list[str]:
        """Words of ``text`` that the tokenizer cannot represent."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        words = text.replace(",", " ").split()
        return [word for word in words if unknown in self.tokenizer.encode(word, add_special_tokens=False)]
