"""New weights on their way into an engine, checked before the engine is touched."""

from __future__ import annotations

from collections.abc import Mapping

from policy.trainable import WeightStream
from rl.types import RunFailure


class SyncError(RunFailure):
    """New weights were refused, or the engine does not compute what the trainer computes."""


def check_weights(
    weights: WeightStream, expected: Mapping[str, tuple[int, ...]], *, again: bool = False
) -> WeightStream:
    """Names and shapes first, which costs nothing; then one tensor at a time, each must be finite and as announced.

    ``expected``: every parameter of the engine and its shape; ``again``: it has had all of these weights before.
    Returns what is to go in: all, or those that have changed. Raises: SyncError naming the parameter.
    """
    _check_names(weights, expected)
    due = weights.changing if again and weights.changing is not None else weights
    shapes = dict(due.shapes)
    for name, tensor in due.tensors():
        if tuple(tensor.shape) != shapes.pop(name, None):
            raise SyncError(f"weight sync: parameter '{name}' is not as announced; send the weights of one model.")
        if not bool(tensor.isfinite().all()):
            raise SyncError(
                f"weight sync: parameter '{name}' holds NaN or infinity; lower the learning rate or the gradient clip."
            )
    if shapes:
        raise SyncError(f"weight sync: parameter '{next(iter(shapes))}' was announced and did not come.")
    return due


def _check_names(weights: WeightStream, expected: Mapping[str, tuple[int, ...]]) -> None:
    seen: set[str] = set()
    for name, shape in weights.shapes:
        if name in seen:
            raise SyncError(f"weight sync: parameter '{name}' came twice; send each parameter once.")
        if name not in expected:
            raise SyncError(f"weight sync: the engine has no parameter '{name}'; send the weights of the same model.")
        if shape != expected[name]:
            raise SyncError(
                f"weight sync: parameter '{name}' has shape {shape}, the engine's has {expected[name]}; "
                "gather sharded weights and send the weights of the same model."
            )
        seen.add(name)
    missing = sorted(set(expected) - seen)
    if missing:
        raise SyncError(
            f"weight sync: {len(missing)} of {len(expected)} parameters are missing, first '{missing[0]}'; "
            "send the whole state_dict (it includes a tied lm_head)."
        )
