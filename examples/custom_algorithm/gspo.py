"""A loss of one's own: the ratio of whole sequences instead of single tokens (GSPO, arXiv 2507.18071, equation 5)."""

import torch

from rl.algorithm.losses import SurrogateLoss


def gspo(logprobs_BT, old_logprobs_BT, advantages_B, *, clip_low: float = 3e-4, clip_high: float = 4e-4):
    """-min(s A, clip(s) A), s = exp(mean over tokens of log pi - log pi_old), the same for all tokens of a sample."""
    ratio_B1 = (logprobs_BT - old_logprobs_BT).mean(-1, keepdim=True).exp()
    advantages_B1 = advantages_B.unsqueeze(-1)
    clipped_B1 = ratio_B1.clamp(1 - clip_low, 1 + clip_high)
    loss_B1 = -torch.minimum(ratio_B1 * advantages_B1, clipped_B1 * advantages_B1)
    active_B1 = (ratio_B1 > 1 + clip_high) & (advantages_B1 > 0) | (ratio_B1 < 1 - clip_low) & (advantages_B1 < 0)
    return SurrogateLoss(*(one.expand_as(logprobs_BT) for one in (loss_B1, ratio_B1.detach(), active_B1)))
