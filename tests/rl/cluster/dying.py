"""A sampling engine and a way to paint that end their process once, in the middle of a step: plug-ins of the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.trajectory import Velocity, euler
from rollout.samplers.base import Sampled
from rollout.samplers.torch_sampler import TorchSampler

_CALL = 6  # after rehearsal and canary


class DyingSampler(TorchSampler):
    """Of all processes that have this engine, the first to come so far is gone without an answer."""

    def __init__(self, *arguments: Any, marker: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._marker, self._calls = Path(marker), 0

    def _sample(self, *arguments: Any) -> Sampled:
        self._calls += 1
        if self._calls == _CALL:
            _die_once(self._marker)
        return super()._sample(*arguments)


def dying_euler(
    velocity: Velocity, noise: Tensor, scheduler: FlowMatchEulerDiscreteScheduler, steps: int, *, marker: str
) -> Tensor:
    """The same in the third painting of a painter: the picture is begun and never comes."""
    calls["paint"] += 1
    if calls["paint"] == 3 and _is_worker():
        velocity(noise, torch.full((len(noise),), 999.0))
        _die_once(Path(marker))
    return euler(velocity, noise, scheduler, steps)


calls = {"paint": 0}


def _is_worker() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.get_runtime_context().get_actor_id() is not None


def _die_once(marker: Path) -> None:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os._exit(1)
