"""What a sampling engine is asked, checked before it is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policy.layout import TokenLayout
from rl.types import PictureFeatures, Span, UserError
from rollout.samplers.contract import EngineError


def check_ids(ids: Sequence[object], layout: TokenLayout, *, max_prompt_tokens: int, where: str) -> tuple[int, ...]:
    """Plain ints of one prompt. Raises: UserError if empty, too long, not integers, or outside the vocabulary."""
    if len(ids) == 0:
        raise UserError(f"{where}: the prompt has no tokens; give it some text.")
    if len(ids) > max_prompt_tokens:
        raise UserError(
            f"{where}: the prompt has {len(ids)} tokens but the engine was started for {max_prompt_tokens}; "
            "shorten it or raise rollout.options.max_prompt_tokens."
        )
    checked = []
    for position, token in enumerate(ids):
        if isinstance(token, bool) or not isinstance(token, (int, np.integer)):
            raise UserError(f"{where}: token {position} is {token!r}, not an integer; give token ids.")
        if not 0 <= token < layout.vocab_size:
            raise UserError(
                f"{where}: token {position} has id {token}, outside the vocabulary of {layout.vocab_size}; "
                "use the tokenizer of this policy folder."
            )
        checked.append(int(token))
    return tuple(checked)


def check_features(features: PictureFeatures, length: int, hidden_size: int, where: str) -> None:
    """An engine would take what it is given. Raises: UserError if the vectors do not fit model or prompt."""
    count, width = features.vectors_ND.shape
    if width != hidden_size:
        raise UserError(
            f"{where}: its picture's vectors have {width} numbers each and the language model's hidden size is "
            f"{hidden_size}; use the image tokenizer of this policy folder."
        )
    if not 0 <= features.start <= length - count:
        raise UserError(
            f"{where}: its picture's {count} vectors stand from id {features.start} on, beyond the end of {length} "
            "ids; use the prompt encoder of this policy folder."
        )
    if not bool(features.vectors_ND.isfinite().all()):
        raise UserError(
            f"{where}: its picture's vectors are not finite; restore image_tokenizer/ of this policy folder."
        )


def check_tokens(tokens_BT: NDArray[np.int64], span: Span, rows: int) -> NDArray[np.int64]:
    """(B, T) int64 tokens of a span. Raises: UserError on a wrong shape or an id outside the span."""
    tokens_BT = np.asarray(tokens_BT)
    wanted = (rows, span.most)
    if tokens_BT.shape != wanted or not np.issubdtype(tokens_BT.dtype, np.integer):
        raise UserError(
            f"tokens: got shape {tokens_BT.shape} of {tokens_BT.dtype}, expected integers of shape {wanted}."
        )
    first, last = span.without or (span.stop, span.stop)
    outside_BT = (tokens_BT < span.start) | (tokens_BT >= span.stop) | ((tokens_BT >= first) & (tokens_BT < last))
    wrong = np.argwhere(outside_BT)
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise UserError(
            f"tokens: row {row}, position {column} has id {tokens_BT[row, column]}, not one of the span's "
            f"{span.start}..{span.stop - 1} (of a picture: the image tokens); use the layout of this policy folder."
        )
    return tokens_BT.astype(np.int64)


class Sampling(NamedTuple):
    """How tokens are drawn."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


def check_sampling(samples: int, seeds: Sequence[object], how: Sampling) -> None:
    """Raises: UserError on a wrong number of seeds, or a sampling option outside its range."""
    if samples == 0:
        raise UserError("rollout: there is nothing to sample; give at least one prompt and group_size >= 1.")
    if len(seeds) != samples:
        raise UserError(f"rollout: {len(seeds)} seeds for {samples} samples; give one seed per sample.")
    wrong = [seed for seed in seeds if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31]
    if wrong:
        raise UserError(f"rollout: seed {wrong[0]!r} is not an integer in 0..2^31-1; use rollout.seeds.sample_seed.")
    temperature, top_p, top_k = how
    if not 0.0 < temperature < float("inf"):
        raise UserError(f"rollout.temperature is {temperature}; it must be a positive number.")
    if not 0.0 < top_p <= 1.0:
        raise UserError(f"rollout.top_p is {top_p}; it must lie in (0, 1], 1 keeps every token.")
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 0:
        raise UserError(f"rollout.top_k is {top_k}; it must be 0 (keep every token) or a positive integer.")


def not_finite(version: int, positions: int) -> EngineError:
    """The error of weights that produce NaN: sampling on would quietly write token 0."""
    broken = (
        "the last update broke the weights: lower the learning rate or resume from a checkpoint."
        if version
        else "nothing has been learnt yet: restore the weights of policy.path, or use policy.dtype float32."
    )
    return EngineError(
        f"the logits of weights version {version} are NaN or infinite at {positions} positions; {broken}"
    )
