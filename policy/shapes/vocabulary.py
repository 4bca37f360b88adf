"""The words of instructions and questions, behind those of the base: no token that there is gets another id."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from policy.base import Policy
from policy.layout import TokenLayout
from rl.data.shapes.edits.instructions import COUNT_WORDS, DIRECTIONS, PHRASES

EDIT_TEMPLATE: Final = "{prompt} <|vision_start|>{picture}<|vision_end|>"
ANSWER_TEMPLATE: Final = f"{EDIT_TEMPLATE} answer :"
"""The question before the picture: what stands in a cell is then read with the question in mind, as for an edit. A
model of this size said the colour of a thing in .85 of held-out questions after 72,000 rows, with the picture first in
.15 after 58,000."""
SPECIALS: Final = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|im_end|>")
"""Qwen3's own names."""
_OF_QUESTIONS: Final = (
    *("answer", "are", "bigger", "color", "dark", "describe", "does", "five", "from", "high", "how", "light", "low"),
    *(
        "many",
        "no",
        "or",
        "read",
        "say",
        "shape",
        "smaller",
        "there",
        "what",
        "where",
        "which",
        "yes",
        "zero",
        "?",
        ",",
        ":",
    ),
)


def instruction_words() -> list[str]:
    """Every word of an edit's instruction that is written in small letters, sorted."""
    texts = [re.sub(r"\{\w*\}", " ", phrase) for phrases in PHRASES.values() for phrase in phrases]
    return sorted({word for text in texts for word in re.findall("[a-z]+", text)} | {*COUNT_WORDS, *DIRECTIONS, "and"})


def extended_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """With the words of instructions, then of questions, then the marks of a picture, all behind the last id."""
    core: Tokenizer = tokenizer.backend_tokenizer
    known = core.get_vocab(with_added_tokens=True)
    words = [word for word in dict.fromkeys((*instruction_words(), *_OF_QUESTIONS)) if word not in known]
    vocabulary = {**known, **{word: len(known) + place for place, word in enumerate(words)}}
    larger = Tokenizer(WordLevel(vocabulary, unk_token=tokenizer.unk_token))
    larger.pre_tokenizer = core.pre_tokenizer
    larger.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=larger, unk_token=tokenizer.unk_token, pad_token=tokenizer.pad_token
    )


def extended_model(ar: Qwen3ForCausalLM, vocab_size: int) -> Qwen3ForCausalLM:
    """The model in place, with rows up to ``vocab_size``: new ones begin at the mean of the old, as in BLIP3o-NEXT."""
    embeddings = ar.get_input_embeddings()
    rows = {"model.embed_tokens": embeddings, "lm_head": ar.lm_head}
    if ar.config.tie_word_embeddings:
        del rows["lm_head"]
    for layer in rows.values():
        layer.weight = nn.Parameter(_with_means(layer.weight.data, vocab_size), layer.weight.requires_grad)
    embeddings.num_embeddings = ar.lm_head.out_features = vocab_size
    if ar.config.tie_word_embeddings:
        ar.lm_head.weight = embeddings.weight
    ar.config.vocab_size = ar.vocab_size = vocab_size
    return ar


def with_answers(policy: Policy) -> Policy:
    """One that reads instructions, able to read questions too: what it has not learnt to answer yet."""
    return replace(policy, task_templates={**policy.task_templates, "answer": ANSWER_TEMPLATE})


def with_editing(policy: Policy) -> Policy:
    """The same policy, able to read instructions with pictures: what it has not learnt to do yet.

    Its language model grows in place; prompts of text alone have the ids that they had.
    """
    tokenizer = extended_tokenizer(policy.tokenizer)
    layout: TokenLayout = replace(policy.layout, vocab_size=len(tokenizer))
    return replace(
        policy,
        tokenizer=tokenizer,
        layout=layout,
        ar=extended_model(policy.ar, len(tokenizer)),
        prompt_encoder="inline",
        task_templates={"edit": EDIT_TEMPLATE},
    )


def _with_means(weight_VD: torch.Tensor, rows: int) -> torch.Tensor:
    new = weight_VD.mean(0, keepdim=True).expand(rows - len(weight_VD), -1)
    return torch.cat([weight_VD, new])
