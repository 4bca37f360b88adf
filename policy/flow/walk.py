"""From noise to latents over an explicit array of sigmas: a window of stochastic steps, Euler steps elsewhere.

The window belongs to the schedule and not to a picture: all pictures that are compared are drawn with the same steps.
Separate windows per picture are known to collapse a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.flow.steps import FlowStep, cps_step, euler_step, sde_step
from policy.flow.window import problem
from policy.trajectory import Velocity
from rl.types import UserError

WindowKind = Literal["sde", "cps"]


@dataclass(frozen=True)
class Window:
    """``size`` stochastic steps from step ``start`` on; ``eta``: how much of a step's noise is fresh."""

    kind: WindowKind
    eta: float
    size: int
    start: int = 0

    def steps(self, sigmas: Sequence[float]) -> tuple[FlowStep, ...]:
        """The T steps of T + 1 sigmas. Raises UserError on a window that does not fit, and on an eta out of range."""
        if wrong := problem({"eta": self.eta, "window": self.size, "start": self.start}, len(sigmas) - 1):
            raise UserError(f"render.sampler.options.{wrong[0]}: {wrong[1]}")
        return tuple(
            self._stochastic(sigma, sigma_next)
            if self.start <= index < self.start + self.size
            else euler_step(sigma, sigma_next)
            for index, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas))
        )

    def _stochastic(self, sigma: float, sigma_next: float) -> FlowStep:
        step = cps_step if self.kind == "cps" else sde_step
        return step(sigma, sigma_next, eta=self.eta)


@dataclass(frozen=True)
class FlowTrajectory:
    """B pictures' way through a window of W steps, all float32: what a policy gradient on the decoder learns from.

    Example: 6 pictures of (32, 4, 4), W = 2 -> ``latents`` (6, 32, 4, 4), ``states`` (6, 3, 32, 4, 4), ``means``
    (6, 2, 32, 4, 4). With an ODE only, W = 0.
    """

    latents: Tensor
    """Clean, at sigma 0."""
    states: Tensor
    """Before the first step of the window, and after each."""
    means: Tensor
    """Of each step's Gaussian, as the policy that painted had it."""
    steps: tuple[FlowStep, ...]
    """Of the window."""

    @classmethod
    def without_window(cls, latents: Tensor) -> FlowTrajectory:
        empty = latents.new_empty(len(latents), 0, *latents.shape[1:], dtype=torch.float32)
        return cls(latents.float(), empty, empty, ())

    @classmethod
    def of_all(cls, parts: Sequence[FlowTrajectory]) -> FlowTrajectory:
        """Of pictures that were painted one lot after another, with the same window."""
        return cls(
            torch.cat([part.latents for part in parts]),
            torch.cat([part.states for part in parts]),
            torch.cat([part.means for part in parts]),
            parts[0].steps,
        )

    def first(self, count: int) -> FlowTrajectory:
        return FlowTrajectory(self.latents[:count], self.states[:count], self.means[:count], self.steps)

    def take(self, rows: Sequence[int]) -> FlowTrajectory:
        """The given pictures, in that order."""
        indices = list(rows)
        return FlowTrajectory(self.latents[indices], self.states[indices], self.means[indices], self.steps)

    def cpu(self) -> FlowTrajectory:
        return FlowTrajectory(self.latents.cpu(), self.states.cpu(), self.means.cpu(), self.steps)


def schedule(scheduler: FlowMatchEulerDiscreteScheduler, steps: int) -> tuple[tuple[float, ...], Tensor]:
    """T + 1 sigmas, each a float32, and the (T,) timesteps in [0, 1000] that the model is shown.

    Sigmas linspace(1, 1/T, T) with the scheduler's shift, then 0: those of ``policy.trajectory.euler``. The scheduler
    only makes them; its ``step`` counts by itself, and takes the first sigmas again after steps made by hand.
    """
    if scheduler.config.stochastic_sampling or scheduler.config.invert_sigmas:
        raise UserError("scheduler_config.json: stochastic_sampling and invert_sigmas must be false to train a decoder")
    walk = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    walk.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist())
    return tuple(walk.sigmas.tolist()), walk.timesteps


def walk_flow(
    velocity: Velocity,
    noise: Tensor,
    steps: Sequence[FlowStep],
    timesteps_T: Tensor,
    fresh: Callable[[int], Tensor],
) -> FlowTrajectory:
    """(B, C, h, w) noise through all ``steps``; ``fresh(index)`` is the standard normal noise of a stochastic step.

    States stay float32; the velocity gets them in the precision of ``noise``. With Euler steps alone and in float32 the
    latents are those of ``policy.trajectory.euler``, bit for bit.
    """
    state = noise.float()
    states: list[Tensor] = []
    means: list[Tensor] = []
    window: list[FlowStep] = []
    for index, step in enumerate(steps):
        timestep_B = timesteps_T[index].to(noise.device).expand(len(noise))
        mean = step.mean(state, velocity(state.to(noise.dtype), timestep_B))
        if step.std == 0:
            state = mean
            continue
        if not window:
            states.append(state)
        state = mean + step.std * fresh(index).to(noise.device, torch.float32)
        states.append(state)
        means.append(mean)
        window.append(step)
    if not window:
        return FlowTrajectory.without_window(state)
    return FlowTrajectory(state, torch.stack(states, 1), torch.stack(means, 1), tuple(window))
