"""Pictures as rows: which timesteps and noise, whose advantage, and that neither ranks nor micro-batches matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.flow.rows import Flow
from policy.flow.samplers import trajectory
from policy.flow.walk import FlowTrajectory, Window, schedule
from rl.algorithm.flow.batch import FlowBatch
from rl.algorithm.flow.flow_grpo import flow_grpo
from rl.algorithm.flow.nft import nft
from rl.algorithm.flow.objective import FlowObjective
from rl.algorithm.stats import UpdateStats
from rl.algorithm.terms import total_loss
from rl.decoder.rows import PaintedPictures, Schedule, finished_pictures, window_steps
from tests.rl.trainer.trainer_case import make_trainer

B, K, STEPS = 3, 2, 8
WALK = Schedule(*schedule(FlowMatchEulerDiscreteScheduler(shift=2.0), STEPS))
HIDDEN = torch.randn(B, 5, 4, generator=torch.Generator().manual_seed(0))


def velocity(x: Tensor, timestep_B: Tensor) -> Tensor:
    return 0.5 * x - 0.25 * timestep_B.reshape(-1, 1, 1, 1) / 1000


def painted(window: bool) -> PaintedPictures:
    noise = torch.randn(B * K, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    walked = trajectory(velocity, noise, FlowMatchEulerDiscreteScheduler(shift=2.0), STEPS, Window("cps", 0.7, 2))
    drawn = walked if window else FlowTrajectory.without_window(walked.latents)
    advantages_BK = torch.tensor([[1.0, -1.0], [0.5, -0.5], [0.0, 0.0]])
    return PaintedPictures(drawn, HIDDEN, advantages_BK, torch.tensor([[True, True], [True, True], [True, False]]))


def finished(seeds: Sequence[int] = (7, 8, 9), step: int = 3, timesteps: int = 3) -> FlowBatch:
    return finished_pictures(painted(False), WALK, timesteps=timesteps, seeds=seeds, run_seed=0, step=step)


def test_a_finished_picture_is_noised_to_timesteps_that_it_was_painted_in() -> None:
    batch, pictures = finished(), painted(False)
    assert len(batch) == B * K * 3 and batch.sequence_N.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert set(batch.t_N.tolist()) <= set(WALK.sigmas[:-1])
    assert torch.equal(
        batch.timestep_N, torch.tensor([WALK.timesteps_T[WALK.sigmas.index(t)] for t in batch.t_N.tolist()])
    )
    for picture in range(B * K):
        rows = slice(3 * picture, 3 * picture + 3)
        assert len(set(batch.t_N[rows].tolist())) == 3
        t = batch.t_N[rows].reshape(-1, 1, 1, 1)
        clean = batch.states[rows] - t * batch.target[rows]  # x_t - t (eps - x0) = x0
        assert torch.allclose(clean, pictures.trajectory.latents[picture].expand_as(clean), atol=1e-5)
    assert batch.advantages_N.reshape(B * K, 3)[:, 0].tolist() == [1.0, -1.0, 0.5, -0.5, 0.0, 0.0]
    assert batch.valid_N.reshape(B * K, 3)[:, 0].tolist() == [True] * 5 + [False]


def test_renders_that_are_compared_share_timesteps_and_noise_and_sequences_do_not() -> None:
    batch, latents = finished(), painted(False).trajectory.latents
    t = batch.t_N.reshape(B, K, 3)
    noise = (batch.target + latents.repeat_interleave(3, 0)).reshape(B, K, 3, 2, 4, 4)
    assert torch.equal(t[:, 0], t[:, 1]) and torch.allclose(noise[:, 0], noise[:, 1], atol=1e-6)
    assert not torch.equal(t[0], t[1]) and not torch.allclose(noise[0], noise[1], atol=0.1)


def test_they_are_a_hash_of_seed_step_and_sequence() -> None:
    whole, again = finished(), finished()
    assert torch.equal(whole.states, again.states)
    turned = finished(seeds=(9, 8, 7))  # a sequence's draws go with it, wherever it stands
    assert torch.equal(turned.t_N.reshape(B, -1)[0], whole.t_N.reshape(B, -1)[2])
    assert not torch.equal(finished(step=4).states, whole.states)


def test_a_window_is_the_steps_as_they_were_drawn() -> None:
    pictures, batch = painted(True), window_steps(painted(True), WALK)
    assert len(batch) == B * K * 2 and batch.step_N is not None and batch.step_N.tolist() == [0, 1] * (B * K)
    states = pictures.trajectory.states
    assert torch.equal(batch.states[::2], states[:, 0]) and torch.equal(batch.target[1::2], states[:, 2])
    assert torch.equal(batch.painted[1::2], pictures.trajectory.means[:, 1])  # type: ignore[index]
    assert batch.t_N[:2].tolist() == list(WALK.sigmas[:2])
    assert batch.timestep_N[:2].tolist() == WALK.timesteps_T[:2].tolist()


def summed(objective: FlowObjective, batch: FlowBatch, size: int) -> tuple[float, dict[str, float], Tensor]:
    """Loss, metrics and gradient of a shift of the flow, in micro-batches of ``size``."""
    stats, shift = UpdateStats(torch.device("cpu")), torch.tensor(0.01, requires_grad=True)
    for rows in torch.arange(len(batch)).split(size):
        part = batch.take(rows.tolist())
        flow = velocity(part.states, part.timestep_N) + shift
        terms = objective(Flow(flow), part)
        loss = total_loss(terms, objective.weights(part))
        loss.backward()
        stats.add(objective.weights(part), loss.detach(), terms)
    metrics = stats.reduce()
    assert shift.grad is not None
    return metrics["loss"], metrics, shift.grad


@pytest.mark.parametrize("window", [False, True], ids=["pictures", "window"])
def test_the_loss_does_not_depend_on_how_the_batch_is_cut(window: bool) -> None:
    make_trainer()  # the process group in which statistics are summed
    objective = FlowObjective(flow_grpo if window else nft, window, pull=0.1)
    batch = objective.prepare(window_steps(painted(True), WALK) if window else finished())
    batch = objective.refer(batch, Flow(velocity(batch.states, batch.timestep_N)))
    assert objective.referred(batch) and float(objective.weights(batch).sum()) == pytest.approx(1.0)
    loss, metrics, gradient = summed(objective, batch, len(batch))
    for size in (1, 5):
        found = summed(objective, batch, size)
        assert found[0] == pytest.approx(loss, rel=1e-5, abs=1e-7) and torch.allclose(found[2], gradient, rtol=1e-4)
        assert found[1] == pytest.approx(metrics, rel=1e-4, abs=1e-7)
    assert metrics["velocity_mse"] == pytest.approx(1e-4, rel=1e-3)  # a shift of .01 everywhere
    if window:
        assert metrics["ratio_deviation"] == 0  # the update's own mean is the old one
        steps = painted(True).trajectory.steps  # each mean is off by what the shift of .01 makes of it
        apart = [(0.01 * step.v_weight) ** 2 / (2 * step.std**2) for step in steps]
        assert metrics["kl_painted"] == pytest.approx(max(apart), rel=1e-3) and max(apart) > 2 * min(apart)
        far = [metrics[f"sigma/{sigma:.3f}/ratio_deviation"] for sigma in WALK.sigmas[:2]]
        assert far == [0, 0]
        assert {"sigma/1.000/ratio_mean", f"sigma/{WALK.sigmas[1]:.3f}/kl_old"} <= metrics.keys()


def test_the_farthest_ratio_at_a_sigma_is_of_the_rows_of_that_sigma() -> None:
    make_trainer()
    objective = FlowObjective(flow_grpo, True)
    batch = objective.prepare(window_steps(painted(True), WALK))
    flow = velocity(batch.states, batch.timestep_N)
    assert batch.window is not None and batch.step_N is not None
    old = torch.stack(
        [
            batch.window.steps[step].mean(batch.states[row : row + 1], flow[row : row + 1])[0]
            for row, step in enumerate(batch.step_N.tolist())
        ]
    )
    only_second = (batch.step_N == 1).float().reshape(-1, 1, 1, 1)
    stats, terms = UpdateStats(torch.device("cpu")), objective(Flow(flow + 0.1 * only_second), replace(batch, old=old))
    stats.add(objective.weights(batch), torch.zeros(()), terms)
    found, (first, second) = stats.reduce(), WALK.sigmas[:2]
    assert found[f"sigma/{first:.3f}/ratio_deviation"] == 0
    assert found[f"sigma/{second:.3f}/ratio_deviation"] == found["ratio_deviation"] > 0


def test_a_mean_at_a_sigma_is_over_the_rows_of_that_sigma() -> None:
    make_trainer()
    objective = FlowObjective(nft, False, pull=1.0)
    batch = objective.prepare(finished())
    moved = velocity(batch.states, batch.timestep_N) + batch.t_N.reshape(-1, 1, 1, 1)
    batch = objective.refer(batch, Flow(moved))
    stats, terms = UpdateStats(torch.device("cpu")), objective(Flow(velocity(batch.states, batch.timestep_N)), batch)
    stats.add(objective.weights(batch), torch.zeros(()), terms)
    for name, value in stats.reduce().items():
        if name.endswith("/velocity_mse"):
            assert value == pytest.approx(float(name.split("/")[1]) ** 2, abs=1e-3)
