"""Surrogates and aggregations: by hand, and against TRL's own GRPO trainer on the same tensors."""

from __future__ import annotations

import importlib
import math
from functools import partial
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rl.algorithm import advantages, correction, kl, losses
from tests.rl.trainer.trainer_case import tiny_ar

OLD_BT = torch.tensor([[-1.0, -2.0], [-1.0, -2.0]])
RATIO_BT = torch.tensor([[1.1, 1.5], [1.25, 0.5]])
NEW_BT = OLD_BT + RATIO_BT.log()
ADVANTAGES_B = torch.tensor([2.0, -1.0])


def test_grpo_by_hand() -> None:
    found = losses.grpo(NEW_BT, OLD_BT, ADVANTAGES_B)
    # A = 2: -1.1 * 2, clipped at 1.2; A = -1: 1.25 unclipped (pessimistic side), clipped at 0.8.
    torch.testing.assert_close(found.loss_BT, torch.tensor([[-2.2, -2.4], [1.25, 0.8]]))
    torch.testing.assert_close(found.ratio_BT, RATIO_BT)
    assert found.clipped_BT.tolist() == [[False, True], [False, True]]


def test_clipped_tokens_and_only_those_give_no_gradient() -> None:
    new_BT = NEW_BT.clone().requires_grad_(True)
    found = losses.grpo(new_BT, OLD_BT, ADVANTAGES_B)
    gradient_BT = torch.autograd.grad(found.loss_BT.sum(), new_BT)[0]
    assert torch.equal(gradient_BT == 0, found.clipped_BT)


def test_dapo_clips_higher() -> None:
    new_BT = OLD_BT + torch.tensor([[1.25, 1.5], [1.0, 1.0]]).log()
    torch.testing.assert_close(losses.dapo(new_BT, OLD_BT, ADVANTAGES_B).loss_BT[0], torch.tensor([-2.5, -2.56]))
    torch.testing.assert_close(losses.grpo(new_BT, OLD_BT, ADVANTAGES_B).loss_BT[0], torch.tensor([-2.4, -2.4]))


def test_reinforce_by_hand() -> None:
    torch.testing.assert_close(losses.reinforce(OLD_BT, OLD_BT, ADVANTAGES_B).loss_BT[0], torch.tensor([2.0, 4.0]))


MASK_BT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)


def test_aggregations_by_hand() -> None:
    torch.testing.assert_close(losses.token_mean(MASK_BT), MASK_BT / 6)
    by_sequence_BT = torch.tensor([[1 / 8] * 4, [1 / 4, 1 / 4, 0, 0], [0] * 4])
    torch.testing.assert_close(losses.sequence_mean(MASK_BT), by_sequence_BT)
    torch.testing.assert_close(losses.constant(MASK_BT), MASK_BT / 12)


@pytest.mark.parametrize("aggregation", [losses.token_mean, losses.sequence_mean, losses.constant])
def test_a_batch_without_valid_samples_weighs_nothing(aggregation: Any) -> None:
    assert torch.equal(aggregation(torch.zeros(2, 3, dtype=torch.bool)), torch.zeros(2, 3))


@pytest.fixture(scope="module")
def trl_trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's real GRPOTrainer around a tiny model: groups of 4, rewards read from the table below."""
    from datasets import Dataset

    with pytest.MonkeyPatch.context() as patch:
        # TRL imports vLLM wherever it is installed: half a minute for nothing, here.
        patch.setattr(importlib.import_module("trl.import_utils"), "is_vllm_available", lambda *_, **__: False)
        from trl import GRPOConfig, GRPOTrainer

    words = {word: index for index, word in enumerate(["<pad>", "<eos>", "<unk>", "red", "blue", "circle"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    ar = tiny_ar()
    ar.config._name_or_path = str(tmp_path_factory.mktemp("model"))
    config = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=4,
        report_to=[],
        use_cpu=True,
        bf16=False,
        beta=0.0,
        use_bias_correction_kl=False,  # TRL's default multiplies k3 by the ratio; ours is GRPO's own, without
    )
    rewards = REWARDS_PG.flatten().tolist()

    def table(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
        return [None if math.isnan(value) else value for value in rewards]

    prompts = Dataset.from_list([{"prompt": "red circle"}, {"prompt": "blue circle"}])
    return GRPOTrainer(model=ar, reward_funcs=table, args=config, train_dataset=prompts, processing_class=tokenizer)


REWARDS_PG = torch.tensor([[1.0, 0.0, 0.25, 1.0], [3.0, 1.0, float("nan"), 2.0]])


@pytest.mark.parametrize(("scale", "ours"), [("group", advantages.grpo), ("none", advantages.dr_grpo)])
def test_advantages_equal_trl(trl_trainer: Any, scale: str, ours: Any) -> None:
    trl_trainer.scale_rewards = scale
    inputs = [{"prompt": text} for text in ["red circle"] * 4 + ["blue circle"] * 4]
    theirs_B = trl_trainer._generate_and_score_completions(inputs)["advantages"]
    torch.testing.assert_close(ours(REWARDS_PG, ~REWARDS_PG.isnan()).flatten(), theirs_B)


def gspo(new_BT: Tensor, old_BT: Tensor, advantages_B: Tensor) -> losses.SurrogateLoss:
    return losses.gspo(new_BT, old_BT, advantages_B, SAMPLED_BT, clip_low=0.2, clip_high=0.28)


SAMPLED_BT = torch.tensor([[1, 1, 1, 1]] * 3 + [[1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize(
    ("loss_type", "level", "aggregation", "ours"),
    [
        ("grpo", "token", losses.sequence_mean, losses.dapo),
        ("bnpo", "token", losses.token_mean, losses.dapo),
        ("dapo", "token", losses.token_mean, losses.dapo),
        ("dr_grpo", "token", losses.constant, losses.dapo),
        ("grpo", "sequence", losses.sequence_mean, gspo),
        ("cispo", "token", losses.token_mean, partial(losses.cispo, clip_high=0.28)),
        ("sapo", "token", losses.sequence_mean, losses.sapo),
    ],
)
def test_loss_equals_trl(
    trl_trainer: Any, monkeypatch: pytest.MonkeyPatch, loss_type: str, level: str, aggregation: Any, ours: Any
) -> None:
    generator = torch.Generator().manual_seed(3)
    new_BT, noise_BT, reference_BT, rollout_BT = (torch.randn(5, 4, generator=generator) * 0.3 - 2 for _ in range(4))
    old_BT, advantages_B = noise_BT, torch.randn(5, generator=generator)
    mask_BT = SAMPLED_BT
    new_BT.requires_grad_(True)
    tis_BT = correction.token_tis(old_BT, rollout_BT).weights_BT
    high = 1.28 if loss_type == "cispo" else 0.28  # where TRL's is the weight's bound itself
    settings = {"loss_type": loss_type, "beta": 0.04, "epsilon_low": 0.2, "epsilon_high": high, "use_vllm": True}
    settings |= {"importance_sampling_level": level}
    for name, value in settings.items():
        monkeypatch.setattr(trl_trainer, name, value)
    monkeypatch.setattr(trl_trainer, "vllm_importance_sampling_correction", True)
    monkeypatch.setattr(trl_trainer, "current_gradient_accumulation_steps", 1, raising=False)
    monkeypatch.setattr(trl_trainer, "max_completion_length", 4)

    def log_probs(*_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        return new_BT, torch.zeros_like(new_BT), None

    monkeypatch.setattr(trl_trainer, "_get_per_token_logps_and_entropies", log_probs)
    ids_BT = torch.ones(5, 4, dtype=torch.long)
    theirs = trl_trainer._compute_loss(
        trl_trainer.model,
        {
            "prompt_ids": ids_BT,
            "prompt_mask": ids_BT,
            "completion_ids": ids_BT,
            "completion_mask": mask_BT.long(),
            "advantages": advantages_B,
            "old_per_token_logps": old_BT,
            "ref_per_token_logps": reference_BT,
            "importance_sampling_ratio": tis_BT,
            "num_items_in_batch": mask_BT.sum(),
        },
    )
    total_BT = ours(new_BT, old_BT, advantages_B).loss_BT * tis_BT + kl.k3(new_BT, reference_BT, beta=0.04).loss
    total = (aggregation(mask_BT) * total_BT).sum()
    torch.testing.assert_close(total, theirs)
    gradients = [torch.autograd.grad(loss, new_BT, retain_graph=True)[0] for loss in (total, theirs)]
    torch.testing.assert_close(*gradients)
