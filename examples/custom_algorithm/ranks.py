"""An advantage of one's own: places inside the group, so that a reward with outliers counts as one without."""

import torch

from rl.config.declared import declares


@declares(least_group=2)
def ranks(rewards_PG, valid_PG):
    """Valid samples' places, equal rewards sharing one, spread evenly over [-1, 1]; 0 for invalid ones.

    Example: rewards 0.1, 0.9, 0.4, 0.4 -> -1, 1, 0, 0.
    """
    pairs_PGG = (valid_PG.unsqueeze(-1) & valid_PG.unsqueeze(-2)).float()
    kept_PG = rewards_PG.masked_fill(~valid_PG, 0.0)
    wins_PGG = torch.sign(kept_PG.unsqueeze(-1) - kept_PG.unsqueeze(-2)) * pairs_PGG
    others_P1 = (valid_PG.sum(-1, keepdim=True) - 1).clamp(min=1)
    return wins_PGG.sum(-1) / others_P1
