"""Image tokenizer of the shapes world: one code per distinct cell, the same one in all of its looks."""

from __future__ import annotations

import numpy as np
import torch

from policy.base import Policy
from policy.shapes.discriminants import discriminants
from policy.shapes.reading import FADED, faded_cells
from policy.tokenizers.patch import PatchTokenizer
from rl.data.shapes.looks import every_look


def fit_tokenizer(policy: Policy, seed: int) -> None:
    """Fits ``policy.image_tokenizer`` in place.

    The basis is Fisher's (linear discriminants: directions that tell cells apart and in which the looks of a cell are
    alike), made orthonormal, so that noise in pixels is no larger in it. Codes are the means of each cell's looks; the
    remaining ones are cells faded into the background, so that a decoder's unfinished picture gets a code of its own
    instead of a full object's.
    """
    tokenizer, rng = policy.image_tokenizer, np.random.default_rng(seed)
    if not isinstance(tokenizer, PatchTokenizer):
        raise TypeError(f"the shapes policy has a PatchTokenizer, this one a {type(tokenizer).__name__}")
    looks = every_look()
    looks_LNF = torch.from_numpy(looks.reshape(*looks.shape[:2], -1).astype(np.float32)) / 127.5 - 1.0
    means_NF, cells_NF = looks_LNF.mean(0), looks_LNF[0]
    chosen = faded_cells(policy.layout.num_image_tokens, rng)
    faded = cells_NF[0] + FADED * (cells_NF[chosen] - cells_NF[0])
    tokenizer.mean_F = cells_NF.mean(0)
    tokenizer.basis_FC = discriminants(list(looks_LNF.transpose(0, 1)), tokenizer.basis_FC.shape[1])[0]
    tokenizer.codebook_KC = (torch.cat([means_NF, faded]) - tokenizer.mean_F) @ tokenizer.basis_FC
