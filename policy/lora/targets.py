"""Which layers a LoRA is for, found without torch: by the names and shapes that a checkpoint's files begin with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from policy.convert.tensor_file import read_tensor_file
from rl.config.sections.lora import LoraSettings
from rl.registry import did_you_mean
from rl.types import UserError

_NO_LAYERS = ("lm_head", "model.embed_tokens")
"""Their rows are read directly, by a forward that an adapter would not see."""


def linear_layers(part: Path) -> dict[str, tuple[int, ...]]:
    """Module name -> (out, in) of every linear layer in the blocks of a network's checkpoint."""
    shapes = {
        name.removesuffix(".weight"): stored.shape
        for file in sorted(part.glob("*.safetensors"))
        for name, stored in read_tensor_file(file).tensors.items()
        if name.endswith(".weight")
    }
    return {name: shape for name, shape in shapes.items() if len(shape) == 2 and name not in _NO_LAYERS}


def chosen_layers(targets: Collection[str], names: Collection[str], key: str = "train.lora.targets") -> list[str]:
    """Those of ``names`` that end with a target, as whole parts of the name.

    Raises: UserError naming the first target that is none, and those that there are.
    """
    for target in targets:
        if not any(_ends(name, target) for name in names):
            known = dict.fromkeys(map(_ending, names))
            parts = target.count(".") + 1
            near = did_you_mean(target, {*known, *(".".join(name.split(".")[-parts:]) for name in names)})
            raise UserError(
                f"{key}: no linear layer that can be adapted is called {target!r}{near} (there are: {', '.join(known)})"
            )
    return [name for name in names if any(_ends(name, target) for target in targets)]


def adapter_parameters(settings: LoraSettings, layers: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers are trained."""
    return sum(settings.rank * sum(layers[name]) for name in chosen_layers(settings.targets, layers))


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


def _ending(name: str) -> str:
    """``q_proj``, and ``to_out.0`` where a number alone says nothing."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])
