"""What the embedded model obeys of instructions and questions, for its card and its tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policy.base import Policy
from policy.prompt import PromptEncoder
from policy.words import Words
from rewards.library.answer.reward import AnswerMatch
from rewards.library.edit.reward import Edit
from rl.data.shapes.edits.prompts import edit_examples
from rl.data.shapes.prompts import prompts
from rl.registry import resolve
from rl.types import Prompt, Sample, Span

LONGEST = 8  # tokens of an answer, its end included


def sampled(
    policy: Policy, asked: Sequence[Prompt], span: Span | None = None, encode: PromptEncoder | None = None
) -> NDArray[np.int64]:
    """(B, T) tokens, one sample of each prompt."""
    sampler = resolve("samplers", "torch")(policy.folder, policy.layout, encode=encode or policy.encode_prompt)
    found: NDArray[np.int64] = sampler.sample(list(asked), 1, range(len(asked)), span=span).tokens_BT
    return found


def edits(policy: Policy, tags: Sequence[str], each: int) -> tuple[list[Prompt], NDArray[np.int64]]:
    """Held-out instructions with their pictures, and the tokens of the right answers."""
    right = [one.after for tag in tags for one in edit_examples(tag, ["heldout"], each)]
    return prompts("heldout", each, tuple(tags)), policy.image_tokenizer.encode(np.stack(right))


def obeyed(asked: Sequence[Prompt], pictures: NDArray[np.uint8]) -> dict[str, float]:
    """Operation -> share of edits that do what they were told and keep the rest."""
    samples = [Sample(str(row), one.id, one, pictures[row]) for row, one in enumerate(asked)]
    return _by_tag(asked, [float(score.passed or 0) for score in Edit()(samples)])


def answered(policy: Policy, tags: Sequence[str], each: int, *, features: bool) -> dict[str, float]:
    """Kind of question -> share of right answers; ``features``: by which pictures are read, in place of codes."""
    encode = policy.encoder_of({"answer": policy.picture_vectors} if features else {})
    words, asked = Words.of(policy.tokenizer, policy.layout, LONGEST), prompts("heldout", each, tuple(tags))
    said = words.read(sampled(policy, asked, words.span, encode).tolist())
    samples = [
        Sample(str(row), one.id, one, np.asarray(one.pictures[0].pixels), said[row]) for row, one in enumerate(asked)
    ]
    return _by_tag(asked, [float(score.passed or 0) for score in AnswerMatch()(samples)])


def _by_tag(asked: Sequence[Prompt], values: Sequence[float]) -> dict[str, float]:
    tags = [str(one.metadata["tag"]) for one in asked]
    return {
        tag: float(np.mean([value for value, own in zip(values, tags, strict=True) if own == tag]))
        for tag in dict.fromkeys(tags)
    }
