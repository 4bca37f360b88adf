"""What one field alone can't tell: rules across the sections of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rl.config.schema import Config

_REWARD_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule; nothing for a sound run."""
    yield from _rewards(config)
    if config.train.steps > 0:
        yield from _sampling(config)
        yield from _training(config)


def _rewards(config: Config) -> Iterator[tuple[str, str]]:
    if not config.rewards:
        yield "rewards", "a run needs at least one reward, for example rewards.geneval=geneval"
        return
    for name, reward in config.rewards.items():
        if not _REWARD_NAME.fullmatch(name):
            yield f"rewards.{name}", "a reward's name may hold letters, digits, '_' and '-' only"
        if reward.role == "train" and reward.weight == 0:
            yield f"rewards.{name}.weight", "weight 0 trains nothing; to log the reward only, write role: monitor"
    if config.train.steps > 0 and all(reward.role == "monitor" for reward in config.rewards.values()):
        yield "rewards", "every reward has role: monitor, so there is nothing to learn from; give one role: train"


def _sampling(config: Config) -> Iterator[tuple[str, str]]:
    # A truncated sampler draws from p / kept mass while the trainer's log-probs are of p: the ratio is biased
    # (0.90 at top_p 0.8), and in bf16 some sampled tokens even lie outside the trainer's support.
    rollout = config.rollout
    why = (
        "the trainer's log-probs are those of the whole distribution, so truncated sampling biases the ratio "
        "(only an evaluation, train.steps=0, may truncate)"
    )
    if rollout.top_p != 1:
        yield "rollout.top_p", f"must be 1 while training, got {rollout.top_p}: {why}"
    if rollout.top_k != 0:
        yield "rollout.top_k", f"must be 0 (off) while training, got {rollout.top_k}: {why}"
    if config.rollout.group_size < 2 and config.advantage.use in ("grpo", "dr_grpo", "rloo"):
        yield (
            "rollout.group_size",
            f"advantage {config.advantage.use!r} compares the samples of a group, so it needs at least 2, "
            f"got {rollout.group_size}",
        )
    if config.advantage.use == "batch_norm" and config.combine.use in ("mean", "sum", "product"):
        yield (
            "advantage.use",
            f"batch_norm compares a sample with other prompts' samples, so with combine: {config.combine.use} easy "
            "prompts would be rewarded; write combine: gdpo, or advantage: grpo",
        )


def _training(config: Config) -> Iterator[tuple[str, str]]:
    train = config.train
    samples = config.data.prompts_per_step * config.rollout.group_size
    if samples % train.updates_per_rollout:
        yield (
            "train.updates_per_rollout",
            f"{train.updates_per_rollout} does not divide the {samples} samples of a step "
            f"(data.prompts_per_step {config.data.prompts_per_step} x rollout.group_size {config.rollout.group_size})",
        )
    if config.loss.use == "reinforce" and train.updates_per_rollout > 1:
        yield (
            "train.updates_per_rollout",
            f"loss 'reinforce' has no ratio, so it must be 1, got {train.updates_per_rollout}; or use loss: grpo",
        )
    if train.schedule == "cosine" and train.warmup_steps >= train.steps:
        yield (
            "train.warmup_steps",
            f"{train.warmup_steps} steps of warm-up leave none of the {train.steps} steps for the cosine",
        )
    beta = config.kl.options.get("beta") if config.kl else None
    if beta is not None and (isinstance(beta, bool) or not isinstance(beta, (int, float)) or beta < 0):
        yield "kl.options.beta", f"must be a number that is not negative, got {beta!r}"
