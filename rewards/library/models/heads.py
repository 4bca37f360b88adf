"""Heads on embeddings: chains of linear layers without activations, built from the shapes in their state dict.

LAION's improved aesthetic predictor and ImageReward share one form, 768-1024-128-64-16-1 under the names
``layers.{0,2,4,6,7}`` (the numbers between are dropouts, idle after training). No activation stands between the
layers: the whole head is one affine map.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from rewards.library.models.weights import fill
from rl.types import UserError

_LAYER = re.compile(r"layers\.(\d+)\.(weight|bias)")


def linear_chain(state: Mapping[str, Tensor], *, at: str) -> nn.Sequential:
    """``layers.N.weight``, ``layers.N.bias`` for rising N -> those linear layers in order, one number out.

    Also a single linear layer named ``weight``, ``bias``. Raises ``UserError`` for anything else.
    """
    if set(state) == {"weight", "bias"}:
        state = {f"layers.0.{name}": tensor for name, tensor in state.items()}
    matches = {name: _LAYER.fullmatch(name) for name in state}
    numbers = sorted({int(match[1]) for match in matches.values() if match})
    weights = [state.get(f"layers.{number}.weight") for number in numbers]
    shapes = [tuple(weight.shape) for weight in weights if weight is not None]
    if not all(matches.values()) or len(shapes) != len(weights) or not _chained(shapes):
        raise UserError(
            f"{at}.checkpoint: this is no head on embeddings; expected `layers.0.weight`, `layers.0.bias` "
            f"and so on down to one number, or a single `weight` and `bias`"
        )
    position = {number: i for i, number in enumerate(numbers)}
    chain = nn.Sequential(*(nn.Linear(inputs, outputs) for outputs, inputs in shapes))
    renamed = {f"{position[int(m[1])]}.{m[2]}": state[name] for name, m in matches.items() if m}
    fill(chain, renamed, at=at)
    return chain


def _chained(shapes: list[tuple[int, ...]]) -> bool:
    if not shapes or any(len(shape) != 2 for shape in shapes) or shapes[-1][0] != 1:
        return False
    return all(before[0] == after[1] for before, after in pairwise(shapes))
