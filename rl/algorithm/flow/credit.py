"""Whose merit a picture is, where each of B token sequences is painted k times: pure functions of a (B, k) table.

The decoder's table holds what several rewards combine to in each picture: a product of means is no mean of products.
"""

from __future__ import annotations

from torch import Tensor

_NOISE = 1e-6  # of a row's largest reward: three times .7 over 3 is not .7


def decoder_advantages(rewards_BK: Tensor, valid_BK: Tensor, *, eps: float = 1e-4) -> Tensor:
    """A_ij = (y_ij - mean_j y_ij) / (s + eps), s^2 the variance inside the rows, pooled over the batch.

    Its own sequence is what a picture is compared with: A sums to 0 over the renders of each, so the decoder is never
    praised for good tokens nor blamed for bad ones, and learns to paint what they say. The std is pooled (sum of
    squares over the sum of the degrees of freedom), as one row has few renders: by the std of its own, k = 2 would make
    +-.707 of any difference, however small. The same centring as in Dual-GRPO ("Think-Then-Generate"), whose pictures
    are compared within their own reasoning.

    A render that failed gets 0 and is left out of its row; a row with fewer than two valid renders, or whose renders
    differ by float noise alone, holds no comparison and gets zeros.
    """
    kept_BK = rewards_BK.masked_fill(~valid_BK, 0.0)
    count_B1 = valid_BK.sum(1, keepdim=True)
    comparable_BK = valid_BK & (count_B1 > 1)
    centred_BK = (kept_BK - kept_BK.sum(1, keepdim=True) / count_B1.clamp(min=1)).masked_fill(~comparable_BK, 0.0)
    alike_B1 = centred_BK.abs().amax(1, keepdim=True) <= _NOISE * kept_BK.abs().amax(1, keepdim=True)
    centred_BK = centred_BK.masked_fill(alike_B1, 0.0)
    degrees = (count_B1 - 1).clamp(min=0).sum().clamp(min=1)
    std = (centred_BK.double().square().sum() / degrees).sqrt().to(centred_BK.dtype)
    return centred_BK / (std + eps)
