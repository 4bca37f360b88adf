"""New weights on their way into an engine: names and shapes, checked before the engine is touched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from rl.types import RunFailure

NamedWeights = Iterable[tuple[str, Tensor]]


def check_weights(named: NamedWeights, expected: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """All weights of an update, checked before the engine is touched: each parameter exactly once, shaped, finite.

    Raises: SyncError naming the parameter.
    """
    weights: dict[str, Tensor] = {}
    for name, weight in named:
        if name in weights:
            raise SyncError(f"weight sync: parameter '{name}' came twice; send each parameter once.")
        if name not in expected:
            raise SyncError(f"weight sync: the engine has no parameter '{name}'; send the weights of the same model.")
        if tuple(weight.shape) != expected[name]:
            raise SyncError(
                f"weight sync: parameter '{name}' has shape {tuple(weight.shape)}, the engine's has {expected[name]}; "
                "gather sharded weights and send the weights of the same model."
            )
        if not bool(weight.isfinite().all()):
            raise SyncError(
                f"weight sync: parameter '{name}' holds NaN or infinity; lower the learning rate or the gradient clip."
            )
        weights[name] = weight.detach()
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise SyncError(
            f"weight sync: {len(missing)} of {len(expected)} parameters are missing, first '{missing[0]}'; "
            "send the whole state_dict (it includes a tied lm_head)."
        )
    return weights


def parameter_shapes(ar_folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the whole state_dict of a Qwen3 checkpoint, a tied lm_head included; loads no weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config.from_pretrained(ar_folder))
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


class SyncError(RunFailure):
    """New weights were refused, or the engine does not compute what the trainer computes."""
