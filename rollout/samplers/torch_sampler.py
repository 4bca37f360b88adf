"""Image tokens from plain torch: a KV-cached, batched sampler on transformers' Qwen3 weights. Needs no vLLM.

A prompt is prefilled once and its keys and values are shared out to its group. Each sample draws its T uniform
numbers from a generator of its own, so that its tokens depend on its seed alone, not on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Qwen3ForCausalLM

from policy.ar.decoding import Decoding
from policy.ar.forward import image_forward
from policy.ar.layers import EAGER, LayerHalves
from policy.ar.replayed import ReplayedDecoding
from policy.ar.span import ids_of, rows_of
from policy.layout import TokenLayout
from policy.prompt import Condition
from policy.trainable import WeightStream
from rl.types import Span
from rollout.proof import LiveSum, sums_of
from rollout.samplers.base import CheckedSampler, Encode, Sampled
from rollout.samplers.checks import Sampling, not_finite
from rollout.samplers.contract import EngineError
from rollout.weights import check_weights


class TorchSampler(CheckedSampler):
    """The ``Sampler`` without vLLM; same contract and arguments. Options: ``device``, ``max_num_seqs``, ``compile``."""

    def __init__(
        self,
        folder: str | Path,
        layout: TokenLayout,
        *,
        encode: Encode,
        seed: int = 0,
        dtype: str = "float32",
        max_prompt_tokens: int = 256,
        max_num_seqs: int = 256,
        device: str | None = None,
        compile: bool = False,  # noqa: A002 - the field's own word
    ) -> None:
        super().__init__(folder, layout, encode, max_prompt_tokens)
        self.max_num_seqs = max_num_seqs
        self._halves = LayerHalves.compiled() if compile else EAGER
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        del seed  # part of the engines' common arguments; every sample brings its own seed, so nothing is drawn from it
        ar = Qwen3ForCausalLM.from_pretrained(Path(folder) / "ar", dtype=getattr(torch, dtype))
        self._ar: Qwen3ForCausalLM | None = ar.to(self.device).eval().requires_grad_(False)
        self._shapes = {name: tuple(weight.shape) for name, weight in ar.state_dict().items()}
        self._replayed: ReplayedDecoding | None = None

    def _sample(
        self,
        rows: Sequence[Condition],
        group_size: int,
        seeds: Sequence[int],
        how: Sampling,
        span: Span,
        hidden: bool,
    ) -> Sampled:
        owner_B = [row for row in range(len(rows)) for _ in range(group_size)]
        parts = [
            self._sample_part(rows, owner_B[start:end], seeds[start:end], how, span, hidden)
            for start, end in _chunks(len(owner_B), self.max_num_seqs)
        ]
        tokens, logprobs, states = zip(*parts, strict=True)
        kept = [one for one in states if one is not None]
        return np.concatenate(tokens), np.concatenate(logprobs), torch.cat(kept) if hidden else None

    @torch.inference_mode()
    def _logprobs(
        self, rows: Sequence[Condition], tokens_BT: NDArray[np.int64], temperature: float, span: Span
    ) -> NDArray[np.float32]:
        tokens = torch.from_numpy(tokens_BT).to(self.device)
        parts = [
            image_forward(
                self._model,
                span,
                [row.ids for row in rows[start:end]],
                tokens[start:end],
                features=[row.features for row in rows[start:end]],
                temperature=temperature,
            )
            for start, end in _chunks(len(rows), self.max_num_seqs)
        ]
        return self._finite(torch.cat([part.logprobs_BT for part in parts])).cpu().numpy()

    @torch.no_grad()
    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        """New weights into the engine. Raises: SyncError naming the parameter, before the engine is touched."""
        due = check_weights(weights, self._shapes, again=self._has_all())
        parameters = self._model.state_dict()
        for name, weight in due.tensors():
            parameters[name].copy_(weight)
        self._had_all = True
        self.versions[part] = version

    def live_sums(self, part: str) -> Sequence[LiveSum]:
        """Of every parameter that it samples with."""
        return sums_of(self._model.state_dict().items())

    def close(self) -> None:
        self._ar = self._replayed = None

    @property
    def _model(self) -> Qwen3ForCausalLM:
        if self._ar is None:
            raise EngineError("this sampling engine was closed; start a new one.")
        return self._ar

    @torch.inference_mode()
    def _sample_part(
        self,
        rows: Sequence[Condition],
        owner_B: Sequence[int],
        seeds: Sequence[int],
        how: Sampling,
        span: Span,
        hidden: bool,
    ) -> Sampled:
        first, count = owner_B[0], span.most
        owner = torch.tensor(owner_B, device=self.device) - first
        hidden_BD, next_hidden = self._decoding(rows[first : owner_B[-1] + 1], owner, count)
        uniform_BT = torch.from_numpy(np.stack([np.random.Generator(np.random.Philox(s)).random(count) for s in seeds]))
        uniform_BT = uniform_BT.to(self.device)
        head_KD = rows_of(span, self._model.lm_head.weight)
        tokens, logprobs, states = [], [], [hidden_BD]
        ended_B = torch.zeros(len(seeds), dtype=torch.bool, device=self.device)
        for step in range(count):
            logits_BK = _truncate((hidden_BD @ head_KD.T).float() / how.temperature, how.top_p, how.top_k)
            logprobs_BK = logits_BK.log_softmax(-1)
            code_B = _draw(logprobs_BK, uniform_BT[:, step])
            logprob_B = logprobs_BK.gather(1, code_B[:, None])[:, 0]
            token_B = ids_of(span, code_B)
            if span.end is not None:
                token_B = token_B.masked_fill(ended_B, span.end)
                logprob_B = logprob_B.masked_fill(ended_B, 0.0)
                ended_B = ended_B | (token_B == span.end)
            tokens.append(token_B)
            logprobs.append(logprob_B)
            self._count(len(seeds))
            if hidden or step + 1 < count:
                hidden_BD = next_hidden(token_B)
            if hidden:
                states.append(hidden_BD)
        logprobs_BT = self._finite(torch.stack(logprobs, 1)).cpu().numpy()
        return torch.stack(tokens, 1).cpu().numpy(), logprobs_BT, torch.stack(states, 1) if hidden else None

    def _decoding(
        self, rows: Sequence[Condition], owner_B: Tensor, count: int
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(B, D) hidden states at the ends of the prompts, and from a token of each sample to those at it."""
        ids, features = [row.ids for row in rows], [row.features for row in rows]
        if self.device.type != "cuda":
            decoding = Decoding(self._model, ids, owner_B, count, self._halves, features)
            return decoding.first_hidden_BD, decoding.step
        if self._replayed is None or self._replayed.batch < len(owner_B):
            self._replayed = None  # its memory goes before the new one's comes
            slots = self.max_prompt_tokens + self.layout.tokens_per_image
            self._replayed = ReplayedDecoding(self._model, len(owner_B), slots, self._halves)
        return self._replayed.begin(ids, owner_B, features), self._replayed.step

    def _finite(self, logprobs_BT: Tensor) -> Tensor:
        bad_positions = int((~logprobs_BT.isfinite()).sum())
        if bad_positions:
            raise not_finite(self.version, bad_positions)
        return logprobs_BT


def _truncate(logits_BK: Tensor, top_p: float, top_k: int) -> Tensor:
    """Keeps the ``top_k`` largest, then the smallest set of those that holds ``top_p`` of their mass."""
    if 0 < top_k < logits_BK.shape[-1]:
        smallest_kept_B1 = logits_BK.topk(top_k, -1).values[:, -1:]
        logits_BK = logits_BK.masked_fill(logits_BK < smallest_kept_B1, -torch.inf)
    if top_p < 1.0:
        sorted_BK, order_BK = logits_BK.sort(-1, descending=True)
        probs_BK = sorted_BK.softmax(-1)
        dropped_BK = probs_BK.cumsum(-1) - probs_BK >= top_p
        logits_BK = logits_BK.masked_fill(dropped_BK.scatter(1, order_BK, dropped_BK), -torch.inf)
    return logits_BK


def _draw(logprobs_BK: Tensor, uniform_B: Tensor) -> Tensor:
    """Inverse of the cumulative distribution, in float64: the first token whose cumulative mass exceeds ``uniform``."""
    cumulative_BK = logprobs_BK.double().exp().cumsum(-1)
    target_B1 = uniform_B[:, None] * cumulative_BK[:, -1:]
    return torch.searchsorted(cumulative_BK, target_B1, right=True)[:, 0].clamp(max=logprobs_BK.shape[-1] - 1)


def _chunks(total: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, total)) for start in range(0, total, size)]
