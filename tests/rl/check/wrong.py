"""Losses, advantages and the like with one fault each; and two that are right."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rl.algorithm import losses
from rl.algorithm.correction import Correction
from rl.algorithm.flow.credit import decoder_advantages
from rl.algorithm.flow.flow_grpo import flow_grpo
from rl.algorithm.flow.nft import nft
from rl.algorithm.losses import SurrogateLoss
from rl.algorithm.terms import Shown, Term
from rl.config.declared import declares


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


def undeclared_mask(logprobs_BT, old_logprobs_BT, advantages_B, mask_BT):
    return losses.gspo(logprobs_BT, old_logprobs_BT, advantages_B, mask_BT)


@declares(sequences=True)
def declared_without_mask(logprobs_BT, old_logprobs_BT, advantages_B):
    return losses.grpo(logprobs_BT, old_logprobs_BT, advantages_B)


@declares(sequences=True)
def forgets_mask(train_logprobs_BT, rollout_logprobs_BT, mask_BT):
    ratio_BT = (train_logprobs_BT - rollout_logprobs_BT).mean(-1, keepdim=True).detach().exp()
    return Correction(ratio_BT.expand_as(mask_BT), torch.zeros_like(mask_BT))


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


def mean_of_all(flow, old_flow, target_flow, t_N, advantages_N):
    return Term((advantages_N * (flow - target_flow).square().flatten(1).mean(1)).mean())


def leads_away(flow, old_flow, target_flow, t_N, advantages_N):
    return Term(-advantages_N * (flow - target_flow).square().flatten(1).mean(1))


def flow_detached(flow, old_flow, target_flow, t_N, advantages_N):
    return Term(advantages_N * (flow.detach() - target_flow).square().flatten(1).mean(1))


def at_old(flow, old_flow, target_flow, t_N, advantages_N):
    """At its minimum where it begins."""
    return Term(advantages_N.abs() * (flow - old_flow).square().flatten(1).mean(1))


def over_neighbours(flow, old_flow, target_flow, t_N, advantages_N):
    error_N = (flow - target_flow).square().flatten(1).mean(1)
    return Term(advantages_N * error_N / error_N.detach().mean())


def ratio_off(flow, old_flow, target_flow, t_N, advantages_N):
    term = nft(flow, old_flow, target_flow, t_N, advantages_N)
    return Term(term.loss, {"ratio_deviation": Shown(1e-7 + 0 * t_N, "max")})


def mean_ratio_off(flow, old_flow, target_flow, t_N, advantages_N):
    term = nft(flow, old_flow, target_flow, t_N, advantages_N)
    return Term(term.loss, {"ratio_mean": Shown(torch.full_like(t_N, 1.01))})


def weighted_regression(flow, old_flow, target_flow, t_N, advantages_N):
    return Term(advantages_N.exp() * (flow - target_flow).square().flatten(1).mean(1))


def by_exponent(flow, old_flow, target_flow, t_N, advantages_N):
    moved_N = (flow - old_flow).square().flatten(1).sum(1)
    return Term(nft(flow, old_flow, target_flow, t_N, advantages_N).loss * moved_N.exp())


def undeclared_window(steps, index, state_next, mean, old_mean, advantages_B):
    return flow_grpo(steps, index, state_next, mean, old_mean, advantages_B)


@declares(window=True)
def declared_on_pictures(flow, old_flow, target_flow, t_N, advantages_N):
    return nft(flow, old_flow, target_flow, t_N, advantages_N)


@declares(window=True)
def window_reversed(steps, index, state_next, mean, old_mean, advantages_B):
    return flow_grpo(steps, index, state_next, mean, old_mean, -advantages_B)


@declares(window=True)
def first_step_only(steps, index, state_next, mean, old_mean, advantages_B):
    weight = {0: 1.0}[index]
    term = flow_grpo(steps, index, state_next, mean, old_mean, advantages_B)
    return Term(weight * term.loss)


def not_centred(rewards_BK, valid_BK):
    return rewards_BK.masked_fill(~valid_BK, 0.0)


def worse_is_better(rewards_BK, valid_BK):
    return -decoder_advantages(rewards_BK, valid_BK)
