"""A tiny random policy that reads instructions with pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from policy.base import Policy
from policy.shapes.model import make_random
from policy.shapes.vocabulary import with_editing


def editing_policy(folder: Path, *, tied: bool = False, extended: bool = True) -> Path:
    """Of the same weights as the fixture ``tiny_policy``; its image tokenizer tells the cells of the world apart."""
    make_random(folder, seed=0, tied=tied)
    policy = Policy.load(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        policy.image_tokenizer.codebook_KC = torch.randn_like(policy.image_tokenizer.codebook_KC) * 8  # type: ignore[attr-defined]
    (with_editing(policy) if extended else policy).save(folder)
    return folder
