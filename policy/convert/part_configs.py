"""Configurations of the parts: a BLIP3o-NEXT checkpoint holds their weights, and no word about their sizes.

The published models have SANA 1.5 1.6B, DC-AE f32c32 (sana-1.1), TA-Tok on SigLIP2 so400m, and Euler steps without a
shift: those are the presets. Other sizes bring ``transformer/config.json``, ``vae/config.json`` and
``image_tokenizer/config.json``. A configuration counts only if every tensor has the shape that it makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from policy.json_file import JsonObject, read_json
from rl.types import UserError

CONFIGURED = {
    "transformer": ("caption_channels", "in_channels", "sample_size"),
    "vae": ("latent_channels", "scaling_factor"),
    "image_tokenizer": ("codes", "scale", "vision"),
}
"""Part -> what its configuration must say at least."""
_OF_VISION = ("hidden_size", "image_size", "patch_size")
_PRESETS = Path(__file__).with_name("presets")


@dataclass(frozen=True)
class PartConfig:
    """``origin``: where it is written; ``preset``: it is one of ours."""

    content: JsonObject
    origin: str
    preset: bool


def read_part_configs(folder: Path) -> dict[str, PartConfig]:
    """``folder``/PART/config.json, else the preset. Raises: UserError if a file is none or lacks something."""
    return {part: _read(folder / part / "config.json", part) for part in CONFIGURED}


def scheduler_config() -> JsonObject:
    """Of every such checkpoint: the published code reads another scheduler's file, which leaves the shift at 1."""
    return read_json(_PRESETS / "scheduler.json")


def _read(file: Path, part: str) -> PartConfig:
    if not file.is_file():
        return PartConfig(read_json(_PRESETS / f"{part}.json"), f"the published model's {part}", preset=True)
    content = read_json(file)
    missing = [key for key in CONFIGURED[part] if key not in content]
    if part == "image_tokenizer" and not missing:
        missing = [f"vision.{key}" for key in _OF_VISION if key not in dict(content["vision"])]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}; copy the whole configuration of the part.")
    return PartConfig(content, str(file), preset=False)
