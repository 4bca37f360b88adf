"""A tiny Qwen3 policy, a random batch and a trainer: what the trainer's tests share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from policy.layout import TokenLayout
from policy.lora.adapters import add_lora
from policy.trainable import LanguageModel
from rl.algorithm import correction, entropy, kl, losses, reference
from rl.algorithm.copies import Decay, warmed
from rl.algorithm.entropy import EntropyTerm
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import MOVING, KLTerm, LossTerm, Term
from rl.config.schema import TrainConfig
from rl.learn import TokenTrainer
from rl.trainer.team import Team
from rl.types import Sequences, TokenBatch

TOKENS = 4
_END = 5
LAYOUT = TokenLayout(60, 28, 32, TOKENS, 26, 27, 25, (2, 2))
PPO = PolicyObjective(
    losses.grpo, losses.token_mean, correction.token_tis, penalties={"kl": KLTerm(partial(kl.k3, beta=0.01))}
)


def tiny_ar(vocab: int = 60, seed: int = 0, **options: Any) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocab, **(sizes | options))).eval()


def everything() -> tuple[PolicyObjective, dict[str, Decay]]:
    """Whole samples, a reference that moves beside the fixed one, an entropy that is held at a goal; and the copies."""
    penalties: dict[str, LossTerm] = {
        "kl": KLTerm(partial(kl.k3, beta=0.5), (MOVING,)),
        "drift": KLTerm(partial(_drift, beta=0.01)),
        "entropy": EntropyTerm(partial(entropy.target, goal=3.47, step=0.01, most=0.05)),
    }
    surrogate, correct = partial(losses.gspo, clip_low=0.01, clip_high=0.01), partial(correction.sequence_tis, cap=1.02)
    objective = PolicyObjective(surrogate, losses.sequence_mean, correct, penalties=penalties)
    return objective, {MOVING: partial(reference.ema, decay=0.75), "ema": warmed(0.9)}


def _drift(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor, *, beta: float) -> Term:
    found = kl.k2(logprobs_BT, reference_BT, beta=beta)
    return Term(found.loss, {"drift": found.shown["kl"]})


def make_trainer(
    ar: Qwen3ForCausalLM | None = None,
    objective: PolicyObjective = PPO,
    team: Team | None = None,
    copies: Mapping[str, Decay] = MappingProxyType({}),
    **train: Any,
) -> TokenTrainer:
    config = TrainConfig(**({"lr": 1e-3, "warmup_steps": 0, "steps": 10, "micro_batch": 64} | train))
    ar = ar or tiny_ar()
    lora = add_lora(ar, config.lora, without=("lm_head",)) if config.lora else None
    trainable = LanguageModel(
        ar,
        LAYOUT.image,
        recompute=config.gradient_checkpointing,
        lora=lora,
        entropy_learns="entropy" in objective.penalties,
    )
    return TokenTrainer(trainable, objective, config, steps=config.steps, team=team, copies=copies)


def make_batch(trainer: TokenTrainer, size: int = 6, seed: int = 1, layout: TokenLayout = LAYOUT) -> TokenBatch:
    """Random tokens after prompts of different lengths; the last sample but one is invalid."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [(*range(3, 5 + i % 3), layout.im_start_id, layout.scale_id) for i in range(size)]
    start = layout.image_start_id
    tokens_BT = torch.randint(start, layout.image_end_id, (size, layout.tokens_per_image), generator=generator)
    rows = Sequences(prompts, tokens_BT, 1.0)
    old_BT = trainer.forward(rows).logprobs_BT
    fixed = trainer.reference_forward(rows)
    valid_B = torch.ones(size, dtype=torch.bool)
    valid_B[-2] = False
    return TokenBatch(
        prompt_ids=prompts,
        tokens_BT=tokens_BT,
        rollout_logprobs_BT=old_BT + 0.01 * torch.randn(old_BT.shape, generator=generator),
        old_logprobs_BT=old_BT,
        reference_logprobs_BT=fixed.logprobs_BT if fixed else None,
        advantages_B=torch.randn(size, generator=generator) * valid_B,
        valid_B=valid_B,
        temperature=1.0,
    )


def make_answers(trainer: TokenTrainer, size: int = 5, seed: int = 2) -> TokenBatch:
    """Random words after prompts of different lengths, of one or two tokens with the end; the last one is invalid."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [(*range(3, 6 + i % 2), LAYOUT.im_start_id) for i in range(size)]
    tokens_BT = torch.randint(6, 20, (size, 2), generator=generator)
    tokens_BT[:, 1] = _END
    mask_BT = torch.ones(size, 2, dtype=torch.bool)
    tokens_BT[0, 0], mask_BT[0, 1] = _END, False
    rows = Sequences(prompts, tokens_BT, 1.0, LAYOUT.words(_END, 2))
    old_BT = trainer.forward(rows).logprobs_BT
    fixed = trainer.reference_forward(rows)
    valid_B = torch.arange(size) < size - 1
    return TokenBatch(
        prompt_ids=prompts,
        tokens_BT=tokens_BT,
        span=rows.span,
        rollout_logprobs_BT=old_BT + 0.01 * torch.randn(old_BT.shape, generator=generator),
        old_logprobs_BT=old_BT,
        reference_logprobs_BT=fixed.logprobs_BT if fixed else None,
        advantages_B=torch.randn(size, generator=generator) * valid_B,
        valid_B=valid_B,
        mask_BT=mask_BT,
        temperature=1.0,
    )


def weights(trainer: TokenTrainer) -> dict[str, torch.Tensor]:
    return {name: value.float().clone() for name, value in trainer.weights().tensors()}
