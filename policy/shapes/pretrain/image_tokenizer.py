"""Image tokenizer of the shapes world: one code per distinct cell, the same one in all of its looks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from policy.base import Policy
from policy.tokenizers.patch import PatchTokenizer
from rl.data.shapes.looks import every_look

_LEAST_VARIANCE = 1e-3  # of a pixel among the looks of a cell: none may be trusted without limit
_FADED = 0.4  # of a cell's ink: further from the palest shade of a cell than the cell itself


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
    spare = policy.layout.num_image_tokens - len(cells_NF)
    chosen = rng.permutation(np.arange(1, len(cells_NF)))[:spare]
    faded = cells_NF[0] + _FADED * (cells_NF[chosen] - cells_NF[0])
    tokenizer.mean_F = cells_NF.mean(0)
    tokenizer.basis_FC = discriminants(looks_LNF, tokenizer.basis_FC.shape[1])
    tokenizer.codebook_KC = (torch.cat([means_NF, faded]) - tokenizer.mean_F) @ tokenizer.basis_FC


def discriminants(looks_LNF: Tensor, count: int) -> Tensor:
    """(F, count) orthonormal directions that span the best linear discriminants of N cells in L looks."""
    means_NF = looks_LNF.mean(0)
    within_F = (looks_LNF - means_NF).flatten(0, 1)
    scatter = within_F.T @ within_F / len(within_F) + _LEAST_VARIANCE * torch.eye(within_F.shape[1])
    values, vectors = torch.linalg.eigh(scatter)
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    between = torch.linalg.svd((means_NF - means_NF.mean(0)) @ whiten, full_matrices=False)[2][:count]
    return torch.linalg.qr(whiten @ between.T)[0].contiguous()
