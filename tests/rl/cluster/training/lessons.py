"""Lessons that a trainer can be given without the rest of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from policy.layout import TokenLayout
from rl.cluster.training.group import TrainerGroup
from rl.cluster.training.messages import TokenLesson
from rl.config.load import load
from rl.config.schema import Config
from rl.rows import sequences
from rl.types import Experience, Prompt, Renders, Rollout, Scores
from tests.rl.run_case import ROOT

GROUPS, SIZE = 2, 4


def a_config(policy: Path, folder: Path, **train: object) -> Config:
    """Of the example's loss, with a KL to a frozen copy and an anchor through the connector."""
    given = {"steps": 3, "micro_batch": 3, "warmup_steps": 0, "schedule": "constant", "dtype": "float32", **train}
    keys = {"policy.path": policy, "policy.dtype": "float32", "run.folder": folder, "data.prompts_per_step": GROUPS}
    keys |= {"rollout.group_size": SIZE} | {f"train.{key}": value for key, value in given.items()}
    return load(ROOT / "examples/geneval.yaml", [f"{key}={value}" for key, value in keys.items()])


def lesson(layout: TokenLayout, step: int) -> TokenLesson:
    """Two groups of four token sequences, random but for their step, as likely as any to their sampler."""
    rng, size = np.random.default_rng(step), GROUPS * SIZE
    rollout = Rollout(
        prompts=tuple(Prompt(f"p{index}", "x") for index in range(GROUPS)),
        group_size=SIZE,
        prompt_ids=tuple((*range(3, 5 + index), layout.im_start_id, layout.scale_id) for index in range(GROUPS)),
        tokens_BT=rng.integers(layout.image_start_id, layout.image_end_id, (size, layout.tokens_per_image)),
        logprobs_BT=np.zeros((size, layout.tokens_per_image), np.float32),
        seeds=tuple(range(size)),
        temperature=1.0,
        version=step,
    )
    nothing, valid_B = np.zeros(size, np.float32), np.arange(size) != 1
    experience = Experience(
        step,
        rollout,
        Renders(np.zeros((0, 0, 0, 3), np.uint8), (), 1),
        Scores({}, nothing, valid_B, nothing),
        None,
        None,
        step,
        {},
        {},
    )
    return TokenLesson.of(experience, torch.from_numpy(rng.standard_normal((GROUPS, SIZE)).astype(np.float32)))


def asked_first(group: TrainerGroup, given: TokenLesson) -> TokenLesson:
    """With the log-probs of the policy of now, as a sampler tells them."""
    rollout = given.rollout.rollout()
    logprobs_BT = group.ask("logprobs", sequences(rollout))
    return replace(given, rollout=replace(given.rollout, rest=replace(given.rollout.rest, logprobs_BT=logprobs_BT)))
