"""Where each tensor of a BLIP3o-NEXT checkpoint belongs, told by its name alone (arXiv 2510.15857, published code)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policy.parts import REFERENCE_PART

PREFIXES = {
    "ar": "",
    "connector": "model.diffusion_connector.",
    "transformer": "model.sana.",
    "vae": "model.sana_vae.",
    "image_tokenizer": "model.vision_tower.",
    REFERENCE_PART: "model.und_image_vae_connector.",
}
"""Part of a policy folder -> what its tensors' names begin with in the checkpoint, and not in the part. The last is
there only in checkpoints that edit."""
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_LANGUAGE_MODEL = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
_UNREAD = (
    "model.und_image_vae_as_noise_connector.",
    "model.tar_siglip_features_connector.",
)


@dataclass(frozen=True)
class SortedKeys:
    """``parts``: part -> names there. ``unread``: keys of picture editing, in no part. ``unknown``: the rest."""

    parts: Mapping[str, list[str]]
    unread: list[str]
    unknown: list[str]


def sort_keys(keys: Iterable[str]) -> SortedKeys:
    """Every key goes to exactly one place."""
    found = SortedKeys({part: [] for part in PREFIXES}, [], [])
    for key in keys:
        part = part_of(key)
        if part is not None:
            found.parts[part].append(key.removeprefix(PREFIXES[part]))
        else:
            (found.unread if key.startswith(_UNREAD) else found.unknown).append(key)
    return found


def part_of(key: str) -> str | None:
    """``model.sana.proj_out.bias`` -> ``transformer``; None: it is in no part."""
    if key.startswith(_LANGUAGE_MODEL):
        return "ar"
    return next((part for part, prefix in PREFIXES.items() if prefix and key.startswith(prefix)), None)
