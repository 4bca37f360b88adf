"""What a decoder learns from: pairs of a picture and a timestep, with what the picture has earned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from policy.flow.rows import FlowQuery
from policy.flow.steps import FlowStep


@dataclass(frozen=True)
class TrainedWindow:
    """The stochastic steps that are trained, the same for all pictures."""

    steps: tuple[FlowStep, ...]


@dataclass(frozen=True)
class Sigmas:
    """All that occur in a whole batch, on whatever rank and in whatever micro-batch."""

    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FlowBatch(FlowQuery):
    """N pairs of a picture and a timestep.

    Of finished pictures: ``states`` are noised latents, ``target`` the flow that leads back, ``old`` the flow of the
    policy that painted. Of a window: ``states`` are those before a step, ``target`` the state that was drawn, ``old``
    the mean that it was drawn around.
    """

    t_N: Tensor  # float32, the sigma of the timestep
    target: Tensor
    advantages_N: Tensor
    valid_N: Tensor  # bool
    old: Tensor | None = None  # None: the update's own
    step_N: Tensor | None = None  # int64, index into the window
    painted: Tensor | None = None  # of a window: the mean as the rollout had it
    window: TrainedWindow | None = None
    reference_flow: Tensor | None = None  # of the frozen decoder, if the loss asks for it
    weights_N: Tensor | None = None  # of each row in the loss; the objective makes them
    share_N: Tensor | None = None  # rows that count over those of this sigma; the objective makes both
    sigmas: Sigmas | None = None
