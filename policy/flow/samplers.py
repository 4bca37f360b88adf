"""Decoder samplers with a window of stochastic steps, ``render.sampler: {use: cps, options: {eta: 0.7, window: 2}}``.

A picture still depends on its hidden states and its one seed alone: the fresh noise of each step is drawn from a hash
of its start noise.
"""

from __future__ import annotations

import hashlib

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.flow.walk import FlowTrajectory, Window, schedule, walk_flow
from policy.trajectory import Velocity
from rl.config.declared import declares


@declares(window=True, sde=True, options_problem="policy.flow.window:problem")
def sde(
    velocity: Velocity,
    noise: Tensor,
    scheduler: FlowMatchEulerDiscreteScheduler,
    steps: int,
    /,
    *,
    eta: float = 0.7,
    window: int = 2,
    start: int = 0,
) -> FlowTrajectory:
    """Flow-GRPO's SDE (arXiv 2505.05470) in ``window`` steps from ``start`` on, the flow's ODE elsewhere.

    For 10 steps or more: with few it leaves more noise than the decoder was trained on; take ``cps`` there.
    """
    return trajectory(velocity, noise, scheduler, steps, Window("sde", eta, window, start))


@declares(window=True, options_problem="policy.flow.window:problem")
def cps(
    velocity: Velocity,
    noise: Tensor,
    scheduler: FlowMatchEulerDiscreteScheduler,
    steps: int,
    /,
    *,
    eta: float = 0.7,
    window: int = 2,
    start: int = 0,
) -> FlowTrajectory:
    """Coefficients-preserving sampling (arXiv 2509.05952) in ``window`` steps from ``start`` on, the flow's ODE
    elsewhere."""
    return trajectory(velocity, noise, scheduler, steps, Window("cps", eta, window, start))


def trajectory(
    velocity: Velocity, noise: Tensor, scheduler: FlowMatchEulerDiscreteScheduler, steps: int, window: Window
) -> FlowTrajectory:
    """What the samplers above draw, with the window's states and means."""
    sigmas, timesteps_T = schedule(scheduler, steps)
    return walk_flow(velocity, noise, window.steps(sigmas), timesteps_T, lambda index: fresh_noise(noise, index))


def fresh_noise(noise: Tensor, step: int) -> Tensor:
    """(B, ...) standard normal noise of ``step``, float32, each picture's from its own start noise alone."""
    return torch.stack([_fresh(one, step) for one in noise.detach().cpu().float()])


def _fresh(noise: Tensor, step: int) -> Tensor:
    digest = hashlib.blake2b(noise.numpy().tobytes() + step.to_bytes(4, "big"), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randn(noise.shape, generator=generator)
