"""TRL's side: its GRPOTrainer on the same policy, prompts, reward, painter and sizes, one step when told.

Set as somebody sets it who wants it fast: no logging, no saving, no evaluation, no workers for the data, no gradient
checkpointing, the fused optimizer, and generation, log-probs and update over the largest batch that pays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from policy.layout import TokenLayout
from rewards.pool.alongside import start_rewards
from rl.bench.contract import MOST_STEPS, Assignment, Request, Seat, Seated, StepTaken
from rl.bench.trl_glue import PaintedReward, image_head, in_order, prompt_rows, prompt_tokenizer
from rl.build import load_policy
from rl.config.schema import Config
from rl.preflight.prompts import check_data
from rl.types import UserError

_BATCH = 64
"""Samples of one forward and backward pass, where they divide a step: 32 to 256 take the same time."""
_VLLM_MEMORY = 0.05
"""Share of the machine's memory for its keys and values: a few hundred MB are plenty here."""


def take_steps(config: Config, assignment: Assignment, folder: Path, seat: Seat) -> None:
    """Answers ``seat`` until it hangs up."""
    torch.manual_seed(config.run.seed)
    prompts, _ = check_data(config)
    policy = load_policy(config)
    tokenizer = prompt_tokenizer(policy)
    rows = prompt_rows(policy, tokenizer, prompts)
    # In the trainer's precision, bfloat16 without an fp32 copy: faster than TRL's own ``bf16`` (autocast).
    policy.ar.lm_head = image_head(policy.ar.lm_head, policy.layout)
    longest = max(len(policy.encode_prompt(prompt).ids) for prompt in prompts) if assignment.vllm else None
    with start_rewards(config) as pool:
        reward = PaintedReward(policy, pool, prompts, config.render, config.rewards)
        trainer = GRPOTrainer(
            model=policy.ar,
            reward_funcs=reward,
            args=arguments(config, policy.layout, folder, vllm_prompt=longest),
            train_dataset=in_order(rows, config.run.seed, config.data.prompts_per_step),
            processing_class=tokenizer,
        )
        if trainer.ref_model is not None:
            trainer.ref_model.lm_head = image_head(trainer.ref_model.lm_head, policy.layout)
        pace = StepPacer(seat, reward)
        trainer.add_callback(pace)
        with timed(trainer, "_generate", pace.stages):
            seat.tell(Seated())
            _train(trainer)


def _train(trainer: GRPOTrainer) -> None:
    """Until nobody asks for another step. Raises: UserError where TRL cannot send its weights to vLLM."""
    try:
        trainer.train()
    except _HungUp:
        return
    except AttributeError as error:
        if error.name != "weight_loader":
            raise
        raise UserError(
            "TRL cannot send new weights to vLLM on a CPU: it sets parameter after parameter of the engine's model, "
            "which has packed them away by then (no 'weight_loader')"
        ) from error


def arguments(config: Config, layout: TokenLayout, folder: Path, *, vllm_prompt: int | None = None) -> GRPOConfig:
    """Our configuration in TRL's words. ``vllm_prompt``: tokens of the longest prompt, if vLLM is to sample."""
    train, group = config.train, config.rollout.group_size
    pictures = config.data.prompts_per_step * group
    batch = math.lcm(group, _BATCH) if pictures % math.lcm(group, _BATCH) == 0 else pictures
    parts = pictures // batch
    engine: dict[str, Any] = {}
    if vllm_prompt is not None:
        engine = {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": _VLLM_MEMORY,
            "vllm_max_model_length": vllm_prompt + layout.tokens_per_image + 1,
            "generation_kwargs": {"allowed_token_ids": list(range(layout.image_start_id, layout.image_end_id))},
        }
    return GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=parts,
        steps_per_generation=parts,
        num_generations=group,
        num_iterations=1,
        max_completion_length=layout.tokens_per_image,
        temperature=config.rollout.temperature,
        beta=_beta(config),
        loss_type="grpo",
        learning_rate=train.lr,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=train.warmup_steps,
        adam_beta1=train.betas[0],
        adam_beta2=train.betas[1],
        adam_epsilon=train.eps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.grad_clip,
        optim="adamw_torch_fused",
        max_steps=MOST_STEPS,
        shuffle_dataset=False,
        remove_unused_columns=False,
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        bf16=False,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.run.seed,
        **engine,
    )


def _beta(config: Config) -> float:
    beta = config.kl.options.get("beta") if config.kl else None
    return float(beta) if isinstance(beta, (int, float)) else 0.0


class _HungUp(Exception):
    """Nobody asks for another step."""


class StepPacer(TrainerCallback):
    """Holds the trainer before each step until it is asked for. A step lasts until the next one could begin."""

    def __init__(self, seat: Seat, reward: PaintedReward) -> None:
        self.stages: dict[str, float] = {}
        self._seat, self._reward = seat, reward
        self._requests: Iterator[Request] = iter(seat.requests())
        self._began: float | None = None

    def on_step_begin(self, *_: object, **__: object) -> None:
        if self._began is not None:
            seconds = time.perf_counter() - self._began
            stages = {**self.stages, **self._reward.seconds}
            stages["update"] = seconds - sum(stages.values())  # and reference, advantages, whatever else TRL does
            self._seat.tell(StepTaken(seconds, stages, self._reward.mean))
        if next(self._requests, None) is None:
            raise _HungUp
        self._began = time.perf_counter()


@contextmanager
def timed(owner: object, method: str, seconds: dict[str, float]) -> Iterator[None]:
    """``seconds["sample"]`` of the last call of a method."""
    original = getattr(owner, method)

    def call(*args: object, **kwargs: object) -> object:
        began = time.perf_counter()
        answer = original(*args, **kwargs)
        seconds["sample"] = time.perf_counter() - began
        return answer

    setattr(owner, method, call)
    yield
