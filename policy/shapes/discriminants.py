"""Fisher's linear discriminants: directions that tell groups apart and in which each group is alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def discriminants(groups: Sequence[Tensor], count: int, least_variance: float = 1e-3) -> tuple[Tensor, Tensor]:
    """(F, count) orthonormal directions that span the best ones of groups of (n, F) each, and the mean of their means.

    ``least_variance``: of a number within a group, that none is trusted without limit.
    """
    means_NF = torch.stack([group.mean(0) for group in groups])
    within_F = torch.cat([group - group.mean(0) for group in groups])
    scatter = within_F.T @ within_F / len(within_F) + least_variance * torch.eye(within_F.shape[1])
    values, vectors = torch.linalg.eigh(scatter)
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    centre_F = means_NF.mean(0)
    between = torch.linalg.svd((means_NF - centre_F) @ whiten, full_matrices=False)[2][:count]
    return torch.linalg.qr(whiten @ between.T)[0].contiguous(), centre_F
