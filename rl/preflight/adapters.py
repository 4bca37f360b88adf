"""Whether the adapters that a run trains are possible, found before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from policy.ar.size import ArSize
from policy.convert.tensor_file import read_tensor_file
from policy.lora.targets import adapter_parameters, chosen_layers, linear_layers
from rl.config.schema import Config, TrainConfig
from rl.config.sections.decoder import DecoderConfig
from rl.config.sections.lora import LoraSettings
from rl.preflight.requirements import install_command, version
from rl.preflight.supervised import supervised_parameters
from rl.types import UserError


def lora_problems(config: Config, folder: Path) -> Iterator[str]:
    """peft is missing; a target that is no layer of this policy."""
    trained, train, taught = config.trained_decoder, config.train, config.supervised
    chosen: dict[str, tuple[LoraSettings | None, Path]] = {
        "train.lora": (train.lora if "ar" in config.trainers else None, folder / "ar"),
        "decoder.lora": (trained.lora if trained else None, folder / "transformer"),
        "supervised.decoder_lora": (taught.decoder_lora if taught else None, folder / "transformer"),
    }
    for key, (lora, part) in chosen.items():
        if lora is None:
            continue
        if version("peft") is None:
            yield f"{key}: adapters need peft, which is not installed; type `{install_command(['peft'])}`"
        try:
            chosen_layers(lora.targets, linear_layers(part), f"{key}.targets")
        except UserError as error:
            yield str(error)


def trained_parameters(train: TrainConfig, ar_folder: Path) -> int:
    """How many numbers of the language model learn: all, or those of its adapters."""
    if train.lora is None:
        return ArSize.read(ar_folder).parameters
    return adapter_parameters(train.lora, linear_layers(ar_folder))


def trained_decoder_parameters(trained: DecoderConfig, folder: Path) -> int:
    """The same of the decoder."""
    if trained.lora:
        return adapter_parameters(trained.lora, linear_layers(folder / "transformer"))
    parts = [part for part in ("connector", "transformer") if trained.train in (part, "all")]
    files = [file for part in parts for file in (folder / part).glob("*.safetensors")]
    return sum(prod(stored.shape) for file in files for stored in read_tensor_file(file).tensors.values())


def learning_numbers(config: Config, folder: Path) -> int:
    """Of a run's trainers together."""
    if config.supervised:
        return supervised_parameters(config, config.supervised, folder)
    ar = trained_parameters(config.train, folder / "ar") if "ar" in config.trainers else 0
    trained = config.trained_decoder
    return ar + (trained_decoder_parameters(trained, folder) if trained else 0)
