"""A loss of one's own: PPO's clip with a floor under bad samples (dual-clip PPO, Ye et al., arXiv 1912.09729)."""

import torch

from rl.algorithm.losses import SurrogateLoss, grpo
from rl.config.declared import declares


@declares(not_negative=("clip",), positive=("most",))
def dual_clip(logprobs_BT, old_logprobs_BT, advantages_B, *, clip: float = 0.2, most: float = 3.0):
    """-max(min(rho A, clip(rho) A), most A) for A < 0, so that a large ratio cannot make one bad token rule the step;
    for A >= 0 that of ``grpo``.
    """
    plain = grpo(logprobs_BT, old_logprobs_BT, advantages_B, clip_low=clip, clip_high=clip)
    bad_B1 = advantages_B.unsqueeze(-1) < 0
    floor_BT = (most * advantages_B.abs().unsqueeze(-1)).expand_as(plain.loss_BT)
    beyond_BT = bad_B1 & (plain.loss_BT.detach() > floor_BT)
    loss_BT = torch.where(bad_B1, torch.minimum(plain.loss_BT, floor_BT), plain.loss_BT)
    return SurrogateLoss(loss_BT, plain.ratio_BT, plain.clipped_BT | beyond_BT)
