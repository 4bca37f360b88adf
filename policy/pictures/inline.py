"""Prompts with a picture inside: its image tokens stand in the text, as in BLIP3o-NEXT-edit (arXiv 2510.15857), or
placeholders of which the language model reads the picture's features in place of their embeddings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from policy.layout import TokenLayout
from policy.prompt import Condition, TemplateEncoder
from rl.data.pictures import Picture
from rl.data.tasks import no_answers, require_no_more, require_picture, task_of
from rl.types import PictureFeatures, Prompt, UserError

PictureTokens = Callable[[Picture], tuple[int, ...]]
PictureVectors = Callable[[Picture], Tensor]
"""Its features, as many as it has tokens; made anew each time, for what makes them may learn."""
PLACEHOLDER: Final = "<|image_pad|>"
"""Qwen3's own, in whose places features stand."""
_KEPT = 4096  # pictures whose tokens are remembered: a run's prompts come again


@dataclass(frozen=True)
class InlineEncoder:
    """A prompt of text alone as by ``TemplateEncoder``; one with a picture in the policy's template for its task.

    An instruction stands before the picture and the answer right behind it, so that each of its tokens is as far from
    the one that takes its place as any other. What follows a question is words: nothing opens a picture there.
    """

    pictures = True
    in_template = True

    tokenizer: PreTrainedTokenizerFast
    template: str
    layout: TokenLayout
    tasks: Mapping[str, str]
    """Task -> template; ``edit`` has ``{prompt}`` before ``{picture}``, ``answer`` both in any order."""
    picture_tokens: PictureTokens
    picture_vectors: Mapping[str, PictureVectors] = field(default_factory=dict)
    """Of the tasks whose pictures are read as features."""
    _known: OrderedDict[Picture, tuple[int, ...]] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __call__(self, prompt: Prompt, /) -> Condition:
        picture = self._picture(prompt)
        if picture is None:
            return self._of_text(prompt)
        before, after = self._around(prompt)
        if make := self.picture_vectors.get(task_of(prompt)):
            vectors_ND = make(picture)
            inside = (self._placeholder,) * len(vectors_ND)
            features = PictureFeatures(len(before), picture.digest, vectors_ND)
            return Condition((*before, *inside, *after, *self._opening(prompt)), features)
        return Condition((*before, *self._tokens(picture), *after, *self._opening(prompt)))

    def length(self, prompt: Prompt) -> int:
        """Of ``self(prompt).ids``, without a look at the picture."""
        if self._picture(prompt) is None:
            return len(self._of_text(prompt).ids)
        before, after = self._around(prompt)
        return len(before) + self.layout.tokens_per_image + len(after) + len(self._opening(prompt))

    def unknown_words(self, text: str) -> list[str]:
        return self._of_text.unknown_words(text)

    @cached_property
    def _of_text(self) -> TemplateEncoder:
        return TemplateEncoder(self.tokenizer, self.template, self.layout)

    def _picture(self, prompt: Prompt) -> Picture | None:
        """``None``: the prompt is text alone. Raises: UserError if it lacks a picture, or holds too many."""
        require_picture(prompt)
        task = task_of(prompt)
        if task == "answer" and task not in self.tasks:
            raise no_answers(prompt)
        require_no_more(prompt)
        return None if task == "draw" else prompt.pictures[0]

    def _around(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Ids before and after the picture."""
        before, _, after = self.tasks[task_of(prompt)].partition("{picture}")
        return self._ids(before.replace("{prompt}", prompt.text)), self._ids(after.replace("{prompt}", prompt.text))

    def _opening(self, prompt: Prompt) -> tuple[int, ...]:
        """Of the picture that is asked for, if one is."""
        return () if task_of(prompt) == "answer" else (self.layout.im_start_id, self.layout.scale_id)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _tokens(self, picture: Picture) -> tuple[int, ...]:
        if picture not in self._known:
            self._known[picture] = self.picture_tokens(picture)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[picture]

    @cached_property
    def _placeholder(self) -> int:
        found = self.tokenizer.get_vocab().get(PLACEHOLDER)
        if found is None:
            raise UserError(
                f"this policy's tokenizer has no {PLACEHOLDER}, in whose places a picture's features stand; let its "
                f"questions read codes (policy.reads: codes), or choose a policy that reads features"
            )
        return found
