"""A tiny random policy that reads instructions with pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from policy.ar.loading import make_connector
from policy.base import Policy
from policy.pictures.reference import ReferenceLatents
from policy.shapes.model import CAPTION_CHANNELS, LATENT_CHANNELS, make_random
from policy.shapes.vocabulary import with_editing


def editing_policy(folder: Path, *, tied: bool = False, extended: bool = True, sees: bool = False) -> Path:
    """Of the same weights as the fixture ``tiny_policy``; its image tokenizer tells the cells of the world apart.
    ``sees``: its decoder attends to the picture that is to be changed."""
    make_random(folder, seed=0, tied=tied)
    policy = Policy.load(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        policy.image_tokenizer.codebook_KC = torch.randn_like(policy.image_tokenizer.codebook_KC) * 8  # type: ignore[attr-defined]
        if sees:
            connector = make_connector(LATENT_CHANNELS, CAPTION_CHANNELS)
            policy.decoder.reference = ReferenceLatents(connector, beside_noise=False)
    (with_editing(policy) if extended else policy).save(folder)
    return folder
