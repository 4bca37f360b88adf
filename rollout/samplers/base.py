"""What both sampling engines have in common: which weights they hold, what they check, and the rollout they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from policy.ar.size import ArSize
from policy.layout import TokenLayout
from policy.prompt import Condition
from policy.prompt_length import room_for_prompt
from rl.process.progress import Progress, untold
from rl.types import PictureFeatures, Prompt, Rollout, Sequences, Span, UserError
from rollout.samplers.checks import Sampling, check_features, check_ids, check_sampling, check_tokens

Encode = Callable[[Prompt], Condition]
Sampled = tuple[NDArray[np.int64], NDArray[np.float32], Tensor | None]
"""Tokens and log-probs, (B, T) each; (B, T + 1, D) final hidden states at <S0> and the tokens, or ``None``."""


class CheckedSampler(ABC):
    """A :class:`rollout.samplers.contract.Sampler` whose engine is asked only what it can answer."""

    follows = frozenset({"ar"})
    asked = "logprobs"

    def __init__(self, folder: str | Path, layout: TokenLayout, encode: Encode, max_prompt_tokens: int) -> None:
        self.layout, self.encode = layout, encode
        self.max_prompt_tokens = min(max_prompt_tokens, room_for_prompt(Path(folder), layout))
        self._hidden_size = ArSize.read(Path(folder) / "ar").hidden
        self.versions = {"ar": 0}
        self.progress: Progress = untold
        self._drawn, self._wanted = 0, 0
        self._had_all = False

    @property
    def version(self) -> int:
        """Of the weights now in the engine, as the trainer counts them; 0 are those of the folder."""
        return self.versions["ar"]

    def sample(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        seeds: Sequence[int],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        span: Span | None = None,
        hidden: bool = False,
    ) -> Rollout:
        """P prompts, G samples each, B = P * G seeds (group-major) -> tokens and their log-probs.

        ``span``: what is sampled; ``None`` is a picture. ``hidden``: with hidden states, if the engine has them.

        Raises: UserError on bad input (the engine is untouched), EngineError if logits are NaN or infinite.
        """
        how, span = Sampling(temperature, top_p, top_k), span or self.layout.image
        check_sampling(len(prompts) * group_size, seeds, how)
        self._check_span(span)
        rows = [self._condition(prompt) for prompt in prompts]
        self._drawn, self._wanted = 0, len(seeds) * span.most
        tokens_BT, logprobs_BT, hidden_BSD = self._sample(rows, group_size, seeds, how, span, hidden)
        self._wanted = 0
        return Rollout(
            prompts=tuple(prompts),
            group_size=group_size,
            prompt_ids=tuple(row.ids for row in rows),
            tokens_BT=tokens_BT,
            logprobs_BT=logprobs_BT,
            seeds=tuple(int(seed) for seed in seeds),
            temperature=temperature,
            version=self.version,
            mask_BT=None if span.end is None else _until_end(tokens_BT, span.end),
            span=span,
            hidden_BSD=hidden_BSD,
            features=tuple(row.features for row in rows) if any(row.features for row in rows) else None,
        )

    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        tokens_BT: NDArray[np.int64],
        *,
        temperature: float = 1.0,
        span: Span | None = None,
        features: Sequence[PictureFeatures | None] | None = None,
    ) -> NDArray[np.float32]:
        """Teacher-forced log-probs (B, T) of given tokens under the engine's current weights."""
        span = span or self.layout.image
        check_sampling(len(prompt_ids), [0] * len(prompt_ids), Sampling(temperature))
        self._check_span(span)
        given = zip(prompt_ids, features or [None] * len(prompt_ids), strict=True)
        checked = [self._checked(ids, seen, f"prompt {row}") for row, (ids, seen) in enumerate(given)]
        return self._logprobs(checked, check_tokens(tokens_BT, span, len(checked)), temperature, span)

    def answer(self, question: object) -> NDArray[np.float32]:
        """The log-probs of some ``Sequences``."""
        if not isinstance(question, Sequences):
            raise TypeError(f"a sampler is asked about Sequences, not {type(question).__name__}")
        rows = question
        return self.logprobs(
            rows.prompt_ids,
            rows.tokens_BT.numpy(),
            temperature=rows.temperature,
            span=rows.span,
            features=rows.features,
        )

    def sleep(self, level: int) -> None:
        """An engine that keeps its memory says so."""
        raise UserError(f"rollout.sleep is {level}, and this engine keeps its memory; set it to 0, or use vllm.")

    @abstractmethod
    def _sample(
        self,
        rows: Sequence[Condition],
        group_size: int,
        seeds: Sequence[int],
        how: Sampling,
        span: Span,
        hidden: bool,
    ) -> Sampled:
        """After the end of a sample come more ends, with a log-prob of 0."""

    def _has_all(self) -> bool:
        """Whether it still has all of the trainer's weights, so that those that have changed suffice."""
        return self._had_all

    def _count(self, tokens: int) -> None:
        """So many more were drawn: all sequences grow side by side, so that they say more than finished sequences."""
        self._drawn += tokens
        self.progress(min(self._drawn, self._wanted), self._wanted, "tokens")

    def _check_span(self, span: Span) -> None:
        """Raises: UserError if this engine or model cannot sample it."""
        if span.most > self.layout.tokens_per_image or span.stop > self.layout.vocab_size:
            raise UserError(
                f"rollout: a span of ids {span.start}..{span.stop - 1} and up to {span.most} tokens does not fit this "
                f"policy ({self.layout.vocab_size} ids, room for {self.layout.tokens_per_image} tokens after a prompt)."
            )

    @abstractmethod
    def _logprobs(
        self, rows: Sequence[Condition], tokens_BT: NDArray[np.int64], temperature: float, span: Span
    ) -> NDArray[np.float32]: ...

    def _condition(self, prompt: Prompt) -> Condition:
        condition, where = self.encode(prompt), f"prompt '{prompt.id}'"
        if condition.latents is not None:
            raise UserError(f"{where}: a language model doesn't read latents, and this prompt holds a picture's.")
        return self._checked(condition.ids, condition.features, where)

    def _checked(self, ids: Sequence[object], features: PictureFeatures | None, where: str) -> Condition:
        checked = check_ids(ids, self.layout, max_prompt_tokens=self.max_prompt_tokens, where=where)
        if features is not None:
            check_features(features, len(checked), self._hidden_size, where)
        return Condition(checked, features)


def _until_end(tokens_BT: NDArray[np.int64], end: int) -> NDArray[np.bool_]:
    """True up to and with the first ``end`` of each row."""
    ended_BT = np.cumsum(tokens_BT == end, axis=1)
    return np.asarray((ended_BT == 0) | ((ended_BT == 1) & (tokens_BT == end)))
