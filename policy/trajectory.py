"""From noise to latents: the ways through a flow, as pure functions of a velocity.

A decoder sampler is a function ``(velocity, noise, scheduler, steps, *, options) -> latents``; a run names one in
``render.sampler``. One that draws fresh noise on the way answers a whole ``policy.flow.walk.FlowTrajectory``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

if TYPE_CHECKING:
    from policy.flow.walk import FlowTrajectory


class Velocity(Protocol):
    """(B, C, h, w) latents at ``timestep_B`` in [0, 1000] -> predicted flow (noise - clean latents), same shape."""

    def __call__(self, latents: Tensor, timestep_B: Tensor, /) -> Tensor: ...


class DecoderSampler(Protocol):
    """(B, C, h, w) noise -> clean latents of the same shape, in ``steps`` evaluations of the velocity."""

    def __call__(
        self, velocity: Velocity, noise: Tensor, scheduler: FlowMatchEulerDiscreteScheduler, steps: int, /
    ) -> Tensor | FlowTrajectory: ...


def euler(velocity: Velocity, noise: Tensor, scheduler: FlowMatchEulerDiscreteScheduler, steps: int, /) -> Tensor:
    """The probability-flow ODE dx = v dt by Euler steps over sigmas linspace(1, 1/steps, steps), as BLIP3o-NEXT (arXiv
    2510.15857) paints; rectified flow (Liu et al., arXiv 2209.03003), equation 1. ``scheduler`` gives its shift.
    """
    walk = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    walk.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist(), device=noise.device)
    latents = noise
    for timestep in walk.timesteps:
        flow = velocity(latents, timestep.expand(len(latents)))  # float32: bfloat16 makes 968 of 966.67
        latents = walk.step(flow, timestep, latents, return_dict=False)[0]
    return latents
