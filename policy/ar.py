"""One forward of the language model, two uses: the decoder's hidden states and the trainer-side log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rl.types import Forward, Span

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM


def image_forward(
    ar: Qwen3ForCausalLM,
    span: Span,
    prompt_ids: Sequence[Sequence[int]],
    tokens_BT: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = 1024,
) -> Forward:
    """Hidden states, log-probs and entropy of the given tokens of a span (BLIP3o-NEXT, arXiv 2510.15857, section 3).

    ``prompt_ids`` are B ragged rows that end with <im_start> <S0>; ``tokens_BT`` are vocabulary ids. Rows are
    padded on the right: attention is causal, so no real position ever sees a pad and a picture cannot depend on
    its neighbours in the batch. Log-probs are those of the distribution sampled from: only image tokens, at
    ``temperature``. They go through the image rows of the lm_head, ``chunk`` positions at a time, so that memory
    does not grow with the text vocabulary. Differentiable in ``logprobs_BT``; ``entropy_BT`` is detached.
    """
    input_ids_BL, first_B = _right_pad(prompt_ids, tokens_BT)
    states_BLD = ar.model(input_ids=input_ids_BL, use_cache=False).last_hidden_state
    positions_BS = first_B[:, None] + torch.arange(tokens_BT.shape[1] + 1, device=tokens_BT.device)
    hidden_BSD = states_BLD.gather(1, positions_BS[..., None].expand(-1, -1, states_BLD.shape[-1]))
    head_KD = ar.lm_head.weight[span.start : span.stop]
    logprobs_BT, entropy_BT = _chunked_logprobs(hidden_BSD[:, :-1], head_KD, tokens_BT - span.start, temperature, chunk)
    return Forward(hidden_BSD, logprobs_BT, entropy_BT)


def parameter_shapes(ar_folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the whole state_dict of a checkpoint, a tied lm_head included; loads no weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config.from_pretrained(ar_folder))
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def _right_pad(prompt_ids: Sequence[Sequence[int]], tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L) ids with image tokens right after each prompt, and the position of <S0> in each row."""
    lengths = [len(ids) for ids in prompt_ids]
    batch, count = tokens_BT.shape
    rows = torch.zeros(batch, max(lengths) + count, dtype=torch.long)
    for row, ids in enumerate(prompt_ids):
        rows[row, : len(ids)] = torch.tensor(ids)
    rows = rows.to(tokens_BT.device)
    lengths_B = torch.tensor(lengths, device=tokens_BT.device)
    columns_BT = lengths_B[:, None] + torch.arange(count, device=tokens_BT.device)
    return rows.scatter(1, columns_BT, tokens_BT), lengths_B - 1


def _chunked_logprobs(
    hidden_BTD: Tensor, head_KD: Tensor, codes_BT: Tensor, temperature: float, chunk: int
) -> tuple[Tensor, Tensor]:
    flat_ND, codes_N = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), codes_BT.reshape(-1)
    logprobs, entropies = [], []
    for start in range(0, len(codes_N), chunk):
        part = (flat_ND[start : start + chunk], head_KD, codes_N[start : start + chunk], temperature)
        # the logits are made again in the backward pass instead of being kept for it
        logprob, entropy = (
            checkpoint(_token_logprobs, *part, use_reentrant=False)
            if torch.is_grad_enabled()
            else _token_logprobs(*part)
        )
        logprobs.append(logprob)
        entropies.append(entropy)
    return torch.cat(logprobs).view_as(codes_BT), torch.cat(entropies).view_as(codes_BT)


def _token_logprobs(hidden_ND: Tensor, head_KD: Tensor, codes_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logits_NK = (hidden_ND @ head_KD.T).float() / temperature
    all_NK = logits_NK.log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(all_NK.exp() * all_NK).sum(-1)
    return all_NK.gather(1, codes_N[:, None])[:, 0], entropy_N
