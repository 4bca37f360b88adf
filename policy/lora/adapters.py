"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685) on the linear layers of any module, through peft.

A target W answers W x + scale * B A x. W is never touched: merging into bfloat16 weights and taking it out again drifts
by a percent each time. Whoever works with whole weights gets W + scale * B A, summed in float32 out of place and
rounded once. In float32 that differs from what the trainer computes by float noise; in bfloat16 by the rounding of the
sum, which ``mismatch`` shows and the correction takes care of. The ratio of a first update stays exactly 1, for both
of its sides are the trainer's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from policy.json_file import JsonObject
from policy.lora.targets import chosen_layers
from rl.config.sections.lora import LoraSettings
from rl.types import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer

_ADAPTER = "default"
_BASE = ".base_layer."
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class StoredWeight:
    """One tensor of a checkpoint. ``parts``: what it is made of, W alone or W, A and B."""

    name: str
    parts: tuple[Tensor, ...]
    scale: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(getattr(self.parts[0], "ds_shape", self.parts[0].shape))

    @property
    def adapted(self) -> bool:
        return len(self.parts) > 1

    def value(self) -> Tensor:
        """Detached; a new tensor where it is a sum, or where the parameter is whole for a moment only (ZeRO-3)."""
        if not self.adapted:
            (whole,) = self.parts
            return whole.detach().clone() if hasattr(whole, "ds_id") else whole.detach()
        weight, down, up = (part.detach() for part in self.parts)
        return (weight.float() + self.scale * (up.float() @ down.float())).to(weight.dtype)


class Lora:
    """The adapters of one module: its language model's, or the attention's of a SANA transformer."""

    def __init__(self, module: nn.Module, layers: Mapping[str, LoraLayer], config: LoraConfig) -> None:
        self._module, self._layers, self._config = module, layers, config

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [weight for layer in self._layers.values() for weight in _down_up(layer)]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the module is what it was before: bit for bit, without a second copy of its weights."""
        for layer in self._layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.enable_adapters(True)

    def weights(self) -> list[StoredWeight]:
        """The module's whole state under the names that it had before."""
        found = []
        for name, value in self._module.state_dict(keep_vars=True).items():
            owner, _, kind = name.rpartition(_BASE)
            if kind == "weight":
                layer = self._layers[owner]
                found.append(StoredWeight(f"{owner}.weight", (value, *_down_up(layer)), layer.scaling[_ADAPTER]))
            elif ".lora_" not in name:
                found.append(StoredWeight(name.replace(_BASE, "."), (value,)))
        return found

    def adapter(self) -> list[StoredWeight]:
        """The adapters alone, under the names of peft's ``adapter_model.safetensors``."""
        return [
            StoredWeight(f"{_PEFT_PREFIX}{name}.lora_{kind}.weight", (weight,))
            for name, layer in self._layers.items()
            for kind, weight in zip("AB", _down_up(layer), strict=True)
        ]

    def config(self) -> JsonObject:
        """Of peft's ``adapter_config.json``."""
        plain = {
            key: sorted(value) if isinstance(value, set) else value for key, value in self._config.to_dict().items()
        }
        return {**plain, "inference_mode": True}


def with_neighbours(weights: Sequence[StoredWeight]) -> list[StoredWeight]:
    """The adapted ones and all that lies in the same module: engines pack the projections of an attention into one
    matrix, which they take as a whole.
    """
    touched = {_module_of(weight.name) for weight in weights if weight.adapted}
    return [weight for weight in weights if _module_of(weight.name) in touched]


def merged_weights(
    base: Mapping[str, Tensor], config: JsonObject, adapters: Mapping[str, Tensor], prefix: str = ""
) -> list[StoredWeight]:
    """A whole state from the base's and a peft folder's: its ``adapter_config.json`` and its tensors.

    ``prefix``: of the adapted network's names in ``base``. Raises: UserError naming a layer that ``base`` lacks.
    """
    scale, found = (
        config["lora_alpha"] / config["r"],
        {name: StoredWeight(name, (value,)) for name, value in base.items()},
    )
    for name, down in adapters.items():
        layer, is_down, _ = name.removeprefix(_PEFT_PREFIX).partition(".lora_A.")
        if not is_down:
            continue
        target = f"{prefix}{layer}.weight"
        if target not in found:
            raise UserError(f"an adapter is for '{layer}', which the policy does not have; use the policy of the run.")
        found[target] = StoredWeight(
            target, (base[target], down, adapters[name.replace(".lora_A.", ".lora_B.")]), scale
        )
    return list(found.values())


def add_lora(module: nn.Module, settings: LoraSettings, *, seed: int = 0, without: tuple[str, ...] = ()) -> Lora:
    """Adapters on those linear layers of ``module`` that ``settings.targets`` name, in place; at first they add 0.

    ``without``: layers that cannot have one, because somebody reads their weights directly. ``seed``: of A.
    Raises: UserError naming a target that matches nothing.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linear = [name for name, one in module.named_modules() if isinstance(one, nn.Linear)]
    chosen = chosen_layers(settings.targets, [name for name in linear if name not in without])
    left_out = [name for name in chosen_layers(settings.targets, linear) if name in without]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        exclude_modules=left_out or None,
        lora_dropout=settings.dropout,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, module, adapter_name=_ADAPTER)
    return Lora(module, {name: module.get_submodule(name) for name in chosen}, config)


def _module_of(name: str) -> str:
    """``model.layers.0.self_attn`` of ``model.layers.0.self_attn.q_proj.weight``."""
    return name.rsplit(".", 2)[0]


def _down_up(layer: LoraLayer) -> tuple[nn.Parameter, nn.Parameter]:
    """A (rank, in) and B (out, rank)."""
    return layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
