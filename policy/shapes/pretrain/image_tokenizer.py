"""Image tokenizer of the shapes world: principal components of the cells and one code per distinct cell."""

from __future__ import annotations

import numpy as np
import torch

from policy.base import Policy
from policy.tokenizers.patch import PatchTokenizer
from rl.data.shapes.sprites import every_cell


def fit_tokenizer(policy: Policy, seed: int) -> None:
    """Fits ``policy.image_tokenizer`` in place.

    Codes start on the distinct cells, as k-means would end; the remaining codes are cells half faded into the
    background, so that a decoder's unfinished picture gets a code of its own instead of a full object's.
    """
    tokenizer, rng = policy.image_tokenizer, np.random.default_rng(seed)
    if not isinstance(tokenizer, PatchTokenizer):
        raise TypeError(f"the shapes policy has a PatchTokenizer, this one a {type(tokenizer).__name__}")
    cells = torch.from_numpy(every_cell().astype(np.float32).reshape(len(every_cell()), -1)) / 127.5 - 1.0
    spare = policy.layout.num_image_tokens - len(cells)
    faded = (cells[rng.permutation(np.arange(1, len(cells)))[:spare]] + cells[0]) / 2
    patches = torch.cat([cells, faded])
    tokenizer.mean_F = cells.mean(0)
    centred = cells - tokenizer.mean_F
    tokenizer.basis_FC = torch.linalg.svd(centred, full_matrices=False)[2][: tokenizer.basis_FC.shape[1]].T.contiguous()
    tokenizer.codebook_KC = (patches - tokenizer.mean_F) @ tokenizer.basis_FC
