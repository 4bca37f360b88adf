"""Losses, advantages and the like with one fault each; and two that are right."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rl.algorithm import losses
from rl.algorithm.correction import Correction
from rl.algorithm.losses import SurrogateLoss
from rl.algorithm.terms import Shown, Term


def bare(logprobs_BT, old_logprobs_BT, advantages_B):
    return -(logprobs_BT * advantages_B[:, None])


def flat_loss(logprobs_BT, old_logprobs_BT, advantages_B):
    found = losses.grpo(logprobs_BT, old_logprobs_BT, advantages_B)
    return SurrogateLoss(found.loss_BT.mean(-1), found.ratio_BT, found.clipped_BT)


def detached(logprobs_BT, old_logprobs_BT, advantages_B):
    return losses.grpo(logprobs_BT.detach(), old_logprobs_BT, advantages_B)


def climbs(logprobs_BT, old_logprobs_BT, advantages_B):
    return losses.grpo(logprobs_BT, old_logprobs_BT, -advantages_B)


def batch_mean(logprobs_BT, old_logprobs_BT, advantages_B):
    return losses.grpo(logprobs_BT, old_logprobs_BT, advantages_B / (advantages_B.abs().mean() + 1e-6))


def raises(logprobs_BT, old_logprobs_BT, advantages_B):
    return losses.grpo(logprobs_BT, old_logprobs_BT, advantages_B.unsqueeze("x"))


def halved(logprobs_BT, old_logprobs_BT, advantages_B, *, scale: float = 0.5):
    return losses.grpo(logprobs_BT, old_logprobs_BT, scale * advantages_B)


def changes(logprobs_BT, old_logprobs_BT, advantages_B):
    advantages_B *= 2
    return losses.grpo(logprobs_BT, old_logprobs_BT, advantages_B)


def graph_kept(logprobs_BT, old_logprobs_BT, advantages_B):
    found = losses.grpo(logprobs_BT, old_logprobs_BT, advantages_B)
    return SurrogateLoss(found.loss_BT, (logprobs_BT - old_logprobs_BT).exp(), found.clipped_BT)


def no_std_floor(rewards_PG, valid_PG):
    kept = rewards_PG.masked_fill(~valid_PG, 0.0)
    return (kept - kept.mean(-1, keepdim=True)) / kept.std(-1, keepdim=True)


def unmasked(rewards_PG, valid_PG):
    return rewards_PG.nan_to_num() - 0.5


def reversed_sign(rewards_PG, valid_PG):
    kept = rewards_PG.masked_fill(~valid_PG, 0.0)
    return (kept.mean(-1, keepdim=True) - kept).masked_fill(~valid_PG, 0.0)


def over_all(rewards_PG, valid_PG):
    kept = rewards_PG.masked_fill(~valid_PG, 0.0)
    return (kept - kept.mean()).masked_fill(~valid_PG, 0.0)


def by_place(rewards_PG, valid_PG):
    places_G = torch.arange(rewards_PG.shape[-1]) / 100
    return (rewards_PG.nan_to_num() + places_G).masked_fill(~valid_PG, 0.0)


def as_list(rewards_PG, valid_PG):
    return rewards_PG.tolist()


def raw(rewards_PG, valid_PG):
    return rewards_PG.masked_fill(~valid_PG, 0.0)


def plain_kl(logprobs_BT: Tensor, reference_logprobs_BT: Tensor, *, beta: float = 0.1):
    return beta * (logprobs_BT - reference_logprobs_BT)


def offset_kl(logprobs_BT: Tensor, reference_logprobs_BT: Tensor):
    return Term(1 + (logprobs_BT - reference_logprobs_BT).square())


def infinite_mean(mask_BT):
    return mask_BT.float() / mask_BT.sum()


def summed(mask_BT):
    return mask_BT.float()


def everywhere(mask_BT):
    return torch.full(mask_BT.shape, 0.1)


def negative(mask_BT):
    return -mask_BT.float()


def uncapped(train_logprobs_BT, rollout_logprobs_BT):
    ratio_BT = (train_logprobs_BT - rollout_logprobs_BT).mul(10).exp()
    return Correction(ratio_BT, ratio_BT > 2)


def trained(train_logprobs_BT, rollout_logprobs_BT):
    ratio_BT = (train_logprobs_BT - rollout_logprobs_BT).exp().clamp(max=2)
    return Correction(ratio_BT, ratio_BT > 2)


def constant_term(outputs, rows):
    return Term(torch.ones_like(outputs.logprobs_BT))


def wide_term(outputs, rows):
    return Term(outputs.hidden_BSD.mean(-1))


def entropy_bonus(outputs, rows, *, beta: float = 0.01):
    return Term(-beta * outputs.entropy_BT, {"bonus": Shown(outputs.entropy_BT)})


def one_total(values_KB, applies_KB, weights_K, group_B):
    return float(values_KB.mean())


def not_finite(values_KB, applies_KB, weights_K, group_B):
    return np.log(values_KB - 0.5).sum(0)


def forgets_applies(values_KB, applies_KB, weights_K, group_B):
    return weights_K @ values_KB


def upside_down(values_KB, applies_KB, weights_K, group_B):
    return -(weights_K @ np.where(applies_KB, values_KB, 0.0))


def telling_nothing(a, b):
    return a


good_loss = losses.grpo
