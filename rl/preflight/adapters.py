"""Whether the adapters that a run trains are possible, found before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policy.ar.size import ArSize
from policy.lora.targets import adapter_parameters, ar_linear_layers, chosen_layers
from rl.config.schema import TrainConfig
from rl.preflight.requirements import install_command, version
from rl.types import UserError


def lora_problems(train: TrainConfig, ar_folder: Path) -> Iterator[str]:
    """peft is missing; a target that is no layer of this language model."""
    if train.lora is None:
        return
    if version("peft") is None:
        yield f"train.lora: adapters need peft, which is not installed; type `{install_command(['peft'])}`"
    try:
        chosen_layers(train.lora.targets, ar_linear_layers(ar_folder))
    except UserError as error:
        yield str(error)


def trained_parameters(train: TrainConfig, ar_folder: Path) -> int:
    """How many numbers of the language model learn: all, or those of its adapters."""
    if train.lora is None:
        return ArSize.read(ar_folder).parameters
    return adapter_parameters(train.lora, ar_linear_layers(ar_folder))
