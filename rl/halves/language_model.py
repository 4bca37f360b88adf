"""Config -> the language model's trainer. It loads nothing of the decoder: a process that trains for a run elsewhere
needs no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import torch
from torch import nn
from transformers import Qwen3ForCausalLM

from policy.ar.layers import EAGER, LayerHalves
from policy.layout import TokenLayout
from policy.lora.adapters import add_lora
from policy.trainable import LanguageModel
from rl.algorithm.answers import answering
from rl.algorithm.copies import Decay, warmed
from rl.algorithm.entropy import EntropyTerm
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import MOVING, AnchorTerm, KLTerm, LossTerm
from rl.config.declared import declarations
from rl.config.schema import Config
from rl.learn import TokenTrainer, TrainedLanguageModel
from rl.trainer.copies import EMA
from rl.trainer.engine import pick_device
from rl.trainer.team import Team


class HasLanguageModel(Protocol):
    """A whole policy, or no more of it than this."""

    @property
    def ar(self) -> Qwen3ForCausalLM: ...

    @property
    def layout(self) -> TokenLayout: ...


def token_trainer(config: Config, policy: HasLanguageModel, connector: nn.Module, team: Team) -> TokenTrainer:
    """``connector``: a copy of its own, through which an anchor compares; without an anchor anything."""
    loss = objective(config, connector.to(getattr(torch, config.train.dtype)).to(pick_device()))
    kept = {} if config.train.ema is None else {EMA: warmed(config.train.ema)}
    return TokenTrainer(
        language_model(config, policy),
        loss,
        config.train,
        steps=config.schedule.steps_of("ar", config.train.steps),
        team=team,
        copies={**moving_reference(config), **kept},
    )


def moving_reference(config: Config) -> Mapping[str, Decay]:
    """``kl_reference`` and how it follows the policy, if it moves."""
    chosen = config.kl_reference
    if config.kl is None or declarations("kl_references", chosen.use).fixed:
        return {}
    return {MOVING: answering("kl_references", "kl_reference", chosen)}


def language_model(config: Config, policy: HasLanguageModel) -> LanguageModel:
    """With adapters on it where they are what is trained."""
    train = config.train
    return LanguageModel(
        policy.ar,
        policy.layout.image,
        chunk=train.logprob_chunk,
        halves=LayerHalves.compiled() if config.policy.compile else EAGER,
        recompute=train.gradient_checkpointing,
        lora=add_lora(policy.ar, train.lora, seed=config.run.seed, without=("lm_head",)) if train.lora else None,
        entropy_learns=config.entropy is not None,
    )


def objective(config: Config, connector: nn.Module) -> PolicyObjective:
    """The loss side of the algorithm's choices, options bound; ``connector`` is what an anchor compares through."""
    penalties: dict[str, LossTerm] = {}
    if config.kl:
        compared = (MOVING,) if moving_reference(config) else ("logprobs",)
        penalties["kl"] = KLTerm(answering("kls", "kl", config.kl), compared)
    if config.entropy:
        penalties["entropy"] = EntropyTerm(answering("entropies", "entropy", config.entropy))
    if config.anchor:
        penalties["anchor"] = AnchorTerm(partial(answering("anchors", "anchor", config.anchor), connector))
    return PolicyObjective(
        surrogate=answering("losses", "loss", config.loss),
        aggregation=answering("aggregations", "aggregation", config.aggregation),
        correction=answering("corrections", "correction", config.correction) if config.correction else None,
        penalties=penalties | {name: answering("terms", f"terms.{name}", term) for name, term in config.terms.items()},
    )


def trained_language_model(config: Config, trainer: TokenTrainer) -> TrainedLanguageModel:
    """As the part of a run that learns."""
    return TrainedLanguageModel(
        trainer,
        config.train.updates_per_rollout,
        config.sync.canary,
        config.sync.canary_tokens,
        skips=config.groups.flat != "keep",
        weights_of=config.modality_weights,
    )
