"""Which published weights the detectors and colours use by default, and whether they are on this machine.

Nothing heavy is imported: ``rl.doctor`` asks in a blink.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """``hub_name`` is loaded by default where ``option`` of geneval names no folder or file."""

    name: str
    hub_name: str
    option: str


HUB_WEIGHTS = (
    Weights("mask2former", "facebook/mask2former-swin-small-coco-instance", "detector_options.checkpoint"),
    Weights("grounding_dino", "IDEA-Research/grounding-dino-tiny", "detector_options.checkpoint"),
    Weights("owlv2", "google/owlv2-base-patch16-ensemble", "detector_options.checkpoint"),
    Weights("clip colours", "timm/vit_large_patch14_clip_224.openai", "colors_options.pretrained"),
)


def hub_cache() -> Path:
    """Where the hub's client keeps its downloads, by its own environment variables."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    home = Path(os.environ.get("HF_HOME", default))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def downloaded(weights: Weights) -> bool:
    """Whether a safetensors file of that repository is in the hub's cache."""
    folder = hub_cache() / f"models--{weights.hub_name.replace('/', '--')}" / "snapshots"
    return any(folder.glob("*/*.safetensors"))
