"""Stages that take a set time, as on machines of their own, and compute next to nothing: plug-ins of the tests."""

from __future__ import annotations

import time
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.trajectory import Velocity, euler
from rl.algorithm.terms import Term
from rl.types import Forward, TokenBatch
from rollout.samplers.base import Sampled
from rollout.samplers.torch_sampler import TorchSampler


class PacedSampler(TorchSampler):
    """Each call is ``seconds`` long."""

    def __init__(self, *arguments: Any, seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seconds = seconds

    def _sample(self, *arguments: Any) -> Sampled:
        until = time.monotonic() + self._seconds
        found = super()._sample(*arguments)
        time.sleep(max(0.0, until - time.monotonic()))
        return found


def paced_euler(
    velocity: Velocity, noise: Tensor, scheduler: FlowMatchEulerDiscreteScheduler, steps: int, *, seconds: float
) -> Tensor:
    until = time.monotonic() + seconds
    found = euler(velocity, noise, scheduler, steps)
    time.sleep(max(0.0, until - time.monotonic()))
    return found


def paced_term(outputs: Forward, rows: TokenBatch, *, seconds: float) -> Term:
    """Of an update in one micro-batch."""
    if len(rows) > 2:  # a rehearsal has two
        time.sleep(seconds)
    return Term(outputs.logprobs_BT * 0.0)
