"""One forward of the language model, two uses: the decoder's hidden states and the trainer-side log-probs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from policy.ar.layers import EAGER, LayerHalves, attend, causal, embedded, right_padded
from policy.ar.span import codes_of, rows_of
from rl.types import Forward, PictureFeatures, Span

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM, Qwen3Model
    from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer


def image_forward(
    ar: Qwen3ForCausalLM,
    span: Span,
    prompt_ids: Sequence[Sequence[int]],
    tokens_BT: Tensor,
    *,
    features: Sequence[PictureFeatures | None] | None = None,
    temperature: float = 1.0,
    chunk: int = 1024,
    halves: LayerHalves = EAGER,
    recompute: bool = False,
    entropy_learns: bool = False,
    prompts: bool = False,
) -> Forward:
    """Hidden states, log-probs and entropy of the given tokens of a span (BLIP3o-NEXT, arXiv 2510.15857, section 3).

    ``prompt_ids`` are B ragged rows that end with <im_start> <S0>; ``features``: of rows that hold a picture as
    vectors; ``tokens_BT`` are vocabulary ids. A prompt that
    several rows share goes through the model once: its group's tokens look at the same keys and values. Nobody sees
    a pad, so a picture cannot depend on its neighbours in the batch. Log-probs are those of the distribution sampled
    from: only ids of the span, at ``temperature``. They go through its rows of the lm_head, ``chunk`` positions at
    a time, so that memory does not grow with the text vocabulary. Differentiable in ``hidden_BSD`` and
    ``logprobs_BT``, and in ``entropy_BT`` if ``entropy_learns``, else it is detached. ``recompute``: of each layer only
    what goes in is kept for the backward pass, which makes the rest again. ``prompts``: also the log-probs of the
    prompts' own ids, over the vocabulary.
    """
    rows = _Packed.of(prompt_ids, features, tokens_BT)
    prompts_PLD, hidden_BSD = _hidden(ar, rows, halves, recompute)
    head_KD = rows_of(span, ar.lm_head.weight)
    codes_BT, token_logprobs = codes_of(span, tokens_BT), partial(_token_logprobs, entropy_learns=entropy_learns)
    logprobs_BT, entropy_BT = _chunked(token_logprobs, hidden_BSD[:, :-1], head_KD, codes_BT, temperature, chunk)
    if not prompts:
        return Forward(hidden_BSD, logprobs_BT, entropy_BT)
    of_prompts_PL, _ = _chunked(
        token_logprobs, prompts_PLD[:, :-1], ar.lm_head.weight, rows.prompts_PL[:, 1:], 1.0, chunk
    )
    return Forward(hidden_BSD, logprobs_BT, entropy_BT, of_prompts_PL[rows.owner_B])


def parameter_shapes(ar_folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the whole state_dict of a checkpoint, a tied lm_head included; loads no weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config.from_pretrained(ar_folder))
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


@dataclass(frozen=True)
class _Packed:
    """P different prompts of at most L ids, and T tokens after the one that each of B rows belongs to.

    ``_Packed.of([(5, 6), (5, 6), (7,)], tokens_BT)``: P = 2, L = 2, ``owner_B`` = (0, 0, 1), ``lengths_P`` = (2, 1).
    """

    prompts_PL: Tensor  # padded on the right, where causal attention never looks
    features_P: Sequence[PictureFeatures | None]
    tokens_BT: Tensor
    owner_B: Tensor
    lengths_P: Tensor

    @classmethod
    def of(
        cls,
        prompt_ids: Sequence[Sequence[int]],
        features: Sequence[PictureFeatures | None] | None,
        tokens_BT: Tensor,
    ) -> _Packed:
        index: dict[tuple[tuple[int, ...], PictureFeatures | None], int] = {}
        given = zip(map(tuple, prompt_ids), features or [None] * len(prompt_ids), strict=True)
        owner_B = [index.setdefault(one, len(index)) for one in given]
        prompts_PL, lengths_P = right_padded([ids for ids, _ in index], tokens_BT.device)
        pictures = [one for _, one in index]
        return cls(prompts_PL, pictures, tokens_BT, torch.tensor(owner_B, device=tokens_BT.device), lengths_P)

    def embedded(self, model: Qwen3Model) -> Tensor:
        """(1, P * L + B * T, D): all prompts, then all tokens, one row for the layers' products."""
        ids = torch.cat([self.prompts_PL.flatten(), self.tokens_BT.flatten()])[None]
        return embedded(model, ids, self.features_P, self.prompts_PL.shape[1])

    def positions(self) -> Tensor:
        """Of what is ``embedded`` in their own sequences."""
        prompt_PL = torch.arange(self.prompts_PL.shape[1], device=self.owner_B.device).expand_as(self.prompts_PL)
        after_T = torch.arange(self.tokens_BT.shape[1], device=self.owner_B.device)
        token_BT = self.lengths_P[self.owner_B][:, None] + after_T
        return torch.cat([prompt_PL.flatten(), token_BT.flatten()])[None]

    def split(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """(1, H, P * L + B * T, d) -> prompts (P, H, L, d) and tokens (B, H, T, d)."""
        count = self.prompts_PL.numel()
        prompts = packed[0, :, :count].unflatten(1, self.prompts_PL.shape).transpose(0, 1)
        return prompts, packed[0, :, count:].unflatten(1, self.tokens_BT.shape).transpose(0, 1)

    def tokens_see(self) -> Tensor:
        """(B, 1, T, L + T) bool: their own prompt without its pads, and the tokens up to themselves."""
        batch, steps = self.tokens_BT.shape
        slots = torch.arange(self.prompts_PL.shape[1], device=self.owner_B.device)
        prompt_B1L = (slots < self.lengths_P[self.owner_B][:, None])[:, None]
        before_BTT = causal(steps, self.owner_B.device)[0].expand(batch, -1, -1)
        return torch.cat([prompt_B1L.expand(-1, steps, -1), before_BTT], -1)[:, None]


def _hidden(ar: Qwen3ForCausalLM, rows: _Packed, halves: LayerHalves, recompute: bool) -> tuple[Tensor, Tensor]:
    """(P, L, D) and (B, T + 1, D) final hidden states after the norm: at each prompt's ids; and at the last id of each
    row's prompt and at its T tokens."""
    states, owner_B = rows.embedded(ar.model), rows.owner_B
    rotary = ar.model.rotary_emb(states, rows.positions())
    prompts_see, tokens_see = causal(rows.prompts_PL.shape[1], states.device), rows.tokens_see()

    def through(layer: Qwen3DecoderLayer, states: Tensor) -> Tensor:
        (query, of_tokens), (key, token_key), (value, token_value) = map(
            rows.split, halves.before(layer, states, rotary)
        )
        prompts_mixed = attend(query, key, value, prompts_see)
        keys, values = torch.cat([key[owner_B], token_key], 2), torch.cat([value[owner_B], token_value], 2)
        tokens_mixed = attend(of_tokens, keys, values, tokens_see)
        mixed = torch.cat([prompts_mixed.flatten(0, 1), tokens_mixed.flatten(0, 1)])[None]
        return halves.after(layer, states, mixed)

    recompute = recompute and torch.is_grad_enabled()
    for layer in ar.model.layers:
        states = checkpoint(through, layer, states, use_reentrant=False) if recompute else through(layer, states)
    states_ND, count = ar.model.norm(states)[0], rows.prompts_PL.numel()
    prompts_PLD = states_ND[:count].unflatten(0, rows.prompts_PL.shape)
    last_PD = prompts_PLD[torch.arange(len(prompts_PLD), device=states.device), rows.lengths_P - 1]
    tokens_BTD = states_ND[count:].unflatten(0, rows.tokens_BT.shape)
    return prompts_PLD, torch.cat([last_PD[owner_B][:, None], tokens_BTD], 1)


def _chunked(
    token_logprobs: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]],
    hidden_BTD: Tensor,
    head_KD: Tensor,
    codes_BT: Tensor,
    temperature: float,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    flat_ND, codes_N = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), codes_BT.reshape(-1)
    logprobs, entropies = [], []
    for start in range(0, len(codes_N), chunk):
        part = (flat_ND[start : start + chunk], head_KD, codes_N[start : start + chunk], temperature)
        # the logits are made again in the backward pass instead of being kept for it
        logprob, entropy = (
            checkpoint(token_logprobs, *part, use_reentrant=False, preserve_rng_state=False)
            if torch.is_grad_enabled()
            else token_logprobs(*part)
        )
        logprobs.append(logprob)
        entropies.append(entropy)
    return torch.cat(logprobs).view_as(codes_BT), torch.cat(entropies).view_as(codes_BT)


def _token_logprobs(
    hidden_ND: Tensor, head_KD: Tensor, codes_N: Tensor, temperature: float, *, entropy_learns: bool
) -> tuple[Tensor, Tensor]:
    logits_NK = (hidden_ND @ head_KD.T).float() / temperature
    all_NK = logits_NK.log_softmax(-1)
    with nullcontext() if entropy_learns else torch.no_grad():
        entropy_N = -(all_NK.exp() * all_NK).sum(-1)
    return all_NK.gather(1, codes_N[:, None])[:, 0], entropy_N
