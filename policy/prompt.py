"""A prompt -> what the language model goes on from. Registry kind ``prompt_encoders``; ``policy.json`` names one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from policy.layout import TokenLayout
from rl.data.prompt_list import name_of
from rl.data.tasks import no_answers, require_picture, task_of
from rl.types import PictureFeatures, Prompt, UserError


@dataclass(frozen=True)
class Condition:
    """``Condition((5, 6, 26, 25))``: token ids that end with <im_start> <S0>, or as the template of questions does."""

    ids: tuple[int, ...]
    features: PictureFeatures | None = None  # of a picture in the prompt, in place of ids
    latents: Tensor | None = None  # of a picture to be edited, for the decoder


class PromptEncoder(Protocol):
    """Prompts of one policy, as the language model reads them.

    Built with the policy's tokenizer, template and layout, and, where ``policy.json`` has ``task_templates``, with
    ``tasks`` and ``picture_tokens``; with ``picture_vectors`` where ``reads`` there says that pictures are read as
    features. A class that reads prompts with pictures says so in its body, ``pictures = True``:
    it is read without importing it. It may say ``length(prompt)`` without a look at the picture.
    """

    def __call__(self, prompt: Prompt, /) -> Condition:
        """Raises: UserError if the prompt holds what this policy cannot read."""

    def unknown_words(self, text: str) -> Sequence[str]:
        """Words of ``text`` that the tokenizer cannot represent."""


@dataclass(frozen=True)
class TemplateEncoder:
    """The text in the policy's template, tokenised as it is."""

    pictures = False
    in_template = True

    tokenizer: PreTrainedTokenizerFast
    template: str
    layout: TokenLayout

    def __call__(self, prompt: Prompt, /) -> Condition:
        require_picture(prompt)
        if task_of(prompt) == "answer":
            raise no_answers(prompt)
        if prompt.pictures:
            raise UserError(
                f"{name_of(prompt)} holds pictures, and this policy reads text alone; take them out of the prompt's "
                f"line or choose a policy that reads pictures"
            )
        ids = self.tokenizer.encode(self.template.format(prompt=prompt.text), add_special_tokens=False)
        return Condition((*ids, self.layout.im_start_id, self.layout.scale_id))

    def unknown_words(self, text: str) -> list[str]:
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        words = text.replace(",", " ").split()
        return [word for word in words if unknown in self.tokenizer.encode(word, add_special_tokens=False)]
