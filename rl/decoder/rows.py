"""A step's pictures as the rows that a decoder learns from.

Which timesteps, and with which noise, is a hash of the run's seed, the step and the token sequence: no rank and no
micro-batch has a say. The renders of a sequence, which are compared with each other, share both, so that what the noise
alone does to a loss falls out of the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policy.flow.rows import SharedHidden, SharedReferences
from policy.flow.walk import FlowTrajectory
from rl.algorithm.flow.batch import FlowBatch, TrainedWindow
from rl.algorithm.flow.nft import noised
from rollout.seeds import sample_seed


@dataclass(frozen=True)
class Schedule:
    """``sigmas``: T + 1 of them, the last 0; ``timesteps_T``: as the network is told them."""

    sigmas: Sequence[float]
    timesteps_T: Tensor


@dataclass(frozen=True)
class PaintedPictures:
    """B token sequences with K pictures of each: what was painted, from what, and what each has earned."""

    trajectory: FlowTrajectory
    hidden_BSD: Tensor
    advantages_BK: Tensor
    valid_BK: Tensor
    references: SharedReferences | None = None
    """Of the token sequences that change a picture; ``None``: none does, or the decoder does not see it."""

    def rows_of(self, each: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of ``each`` rows a picture: its place, its token sequence, its advantage, whether it counts."""
        sequences, renders = self.advantages_BK.shape
        picture_N = torch.arange(sequences * renders).repeat_interleave(each)
        sequence_N = picture_N // renders
        return picture_N, sequence_N, self.advantages_BK.flatten()[picture_N], self.valid_BK.flatten()[picture_N]


def finished_pictures(
    pictures: PaintedPictures, schedule: Schedule, *, timesteps: int, seeds: Sequence[int], run_seed: int, step: int
) -> FlowBatch:
    """B * K * ``timesteps`` rows: each picture noised anew to some of the timesteps that it was painted in.

    ``seeds``: B, of the token sequences.
    """
    latents, count = pictures.trajectory.latents, len(schedule.sigmas) - 1
    keys = [sample_seed(run_seed, step, f"flow of {seed}", 0) for seed in seeds]
    drawn = [_drawn(latents.shape[1:], timesteps, count, key) for key in keys]
    picture_N, sequence_N, advantages_N, valid_N = pictures.rows_of(timesteps)
    nth_N = torch.arange(len(picture_N)) % timesteps
    place_N = torch.stack([places for places, _ in drawn])[sequence_N, nth_N]
    noise = torch.stack([noise for _, noise in drawn])[sequence_N, nth_N]
    t_N = torch.tensor(schedule.sigmas[:-1], dtype=torch.float32)[place_N]
    states, target = noised(latents[picture_N], noise, t_N)
    return FlowBatch(
        states=states,
        timestep_N=schedule.timesteps_T[place_N],
        sequence_N=sequence_N,
        hidden=SharedHidden(pictures.hidden_BSD),
        references=pictures.references,
        t_N=t_N,
        target=target,
        advantages_N=advantages_N,
        valid_N=valid_N,
    )


def window_steps(pictures: PaintedPictures, schedule: Schedule) -> FlowBatch:
    """B * K * W rows: each picture at each stochastic step of its window."""
    trajectory = pictures.trajectory
    steps = trajectory.steps
    places = torch.tensor([list(schedule.sigmas).index(step.sigma) for step in steps])
    picture_N, sequence_N, advantages_N, valid_N = pictures.rows_of(len(steps))
    step_N = torch.arange(len(picture_N)) % len(steps)
    return FlowBatch(
        states=trajectory.states[picture_N, step_N],
        timestep_N=schedule.timesteps_T[places[step_N]],
        sequence_N=sequence_N,
        hidden=SharedHidden(pictures.hidden_BSD),
        references=pictures.references,
        t_N=torch.tensor(schedule.sigmas, dtype=torch.float32)[places[step_N]],
        target=trajectory.states[picture_N, step_N + 1],
        advantages_N=advantages_N,
        valid_N=valid_N,
        step_N=step_N,
        painted=trajectory.means[picture_N, step_N],
        window=TrainedWindow(steps),
    )


def _drawn(shape: torch.Size, timesteps: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(places of different timesteps, noise for each)."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(count, generator=generator)[:timesteps]
    return places, torch.randn(timesteps, *shape, generator=generator)
