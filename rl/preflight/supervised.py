"""What of a policy a supervised run trains, found before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from policy.convert.tensor_file import read_tensor_file
from policy.folder import HYBRID
from policy.json_file import read_json
from policy.lora.targets import adapter_parameters, linear_layers
from policy.tokenizers.names import renamed
from rl.config.schema import Config
from rl.config.sections.supervised import SupervisedConfig
from rl.registry import did_you_mean
from rl.types import UserError

_PARTS = ("ar", "connector", "transformer", "vae")
_UNDERSTANDING = "understanding"


def supervised_parameters(config: Config, options: SupervisedConfig, folder: Path) -> int:
    """How many numbers learn. Raises: UserError on a name that no weight begins with, or an understanding branch that
    is asked for and not there."""
    found: dict[str, int] = {}
    whole = {f"{part}.{name}": count for part in _PARTS for name, count in _numbers(folder / part)}
    if options.understanding:
        whole |= _branch(folder, f"supervised.{options.understanding}")
    for one in options.trained:
        begun = {name: count for name, count in whole.items() if f"{name}.".startswith(f"{one}.")}
        if not begun:
            beginnings = {name.rsplit(".", count)[0] for name in whole for count in range(name.count(".") + 1)}
            raise UserError(f"supervised.trained: no weight begins with {one!r}{did_you_mean(one, beginnings)}")
        found |= begun
    numbers = sum(found.values())
    for part, lora in (("ar", config.train.lora), ("transformer", options.decoder_lora)):
        whole_part = [count for name, count in found.items() if name.startswith(f"{part}.")]
        if lora and whole_part:
            numbers += adapter_parameters(lora, linear_layers(folder / part)) - sum(whole_part)
    return numbers


def _branch(folder: Path, key: str) -> dict[str, int]:
    """Of a hybrid image tokenizer, under the names of its own file, be it that of a TA-Tok."""
    config = read_json(folder / "image_tokenizer" / "config.json")
    if config.get("kind") != HYBRID:
        raise UserError(
            f"{key}: the policy {str(folder)!r} has no understanding branch (its image_tokenizer is of kind "
            f"{config.get('kind')}, not {HYBRID}); choose a policy that has one, or leave it out"
        )
    reads, merged = config["reads"], config["vision"]["hidden_size"] * config.get("merge", 1) ** 2
    adapter = {"0.weight": merged * reads, "0.bias": reads, "2.weight": reads * reads, "2.bias": reads}
    found = {f"continuous.{name}": count for name, count in adapter.items()}
    for name, count in _numbers(folder / "image_tokenizer"):
        own = renamed(name) if name.startswith("vision_tower.") else name
        found |= {own: count} if own else {}
    return {f"{_UNDERSTANDING}.{name}": count for name, count in found.items()}


def _numbers(part: Path) -> Iterator[tuple[str, int]]:
    for file in sorted(part.glob("*.safetensors")):
        for name, stored in read_tensor_file(file).tensors.items():
            yield name, prod(stored.shape)


def supervised_rows(config: Config, options: SupervisedConfig, numbers: int) -> list[tuple[str, str]]:
    """What ``--dry-run`` tells of it."""
    steps, every, rows = config.train.steps, config.checkpoint.every, options.rows_per_step
    written = 1 + (max(steps - 1, 0) // every if every else 0)
    losses = {name: weight for name, weight in options.losses.model_dump().items() if weight}
    if not options.heads:
        losses.pop("heads", None)
    return [
        ("steps", f"{steps:,}, each one update"),
        ("warm-up", f"{config.train.warmup_in(steps):,} of {steps:,} updates"),
        ("ranks", str(config.train.ranks)),
        ("examples", f"{rows:,} a step, {rows * steps:,} in all"),
        ("losses", ", ".join(f"{weight:g} {name}" for name, weight in losses.items())),
        ("trained", f"{numbers:,} parameters: {', '.join(options.trained)}"),
        ("checkpoints", f"{written:,} written, {min(written, config.checkpoint.keep)} kept"),
    ]
