"""A decoder that learns, small enough for seconds: the sections of a run's configuration."""

from __future__ import annotations

from typing import Any

DECODER: dict[str, Any] = {
    "trainers": ["decoder"],
    "data": {
        "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4}},
        "eval": None,
        "prompts_per_step": 3,
    },
    "rollout": {"engine": "torch", "group_size": 1},
    "render": {"steps": 4, "renders": 2},
    "train": {"steps": 5},
    "decoder": {"lr": 1e-3, "warmup_steps": 1, "micro_batch": 5, "timesteps": 2, "train": "all"},
    "checkpoint": {"every": 2},
    "kl": None,
}
WINDOW: dict[str, Any] = {
    **DECODER,
    "render": {"steps": 4, "renders": 2, "sampler": {"use": "cps", "options": {"eta": 0.7, "window": 2}}},
    "decoder": {**DECODER["decoder"], "loss": "flow_grpo"},
}
