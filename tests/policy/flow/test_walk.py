"""From noise to latents: bit-equal to painting in ODE mode, golden paths, one window for all, mistakes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from policy.base import load_decoder
from policy.flow.samplers import cps, fresh_noise, sde, trajectory
from policy.flow.steps import euler_step
from policy.flow.walk import Window, WindowKind, schedule, walk_flow
from policy.trajectory import euler
from rl.types import UserError
from tests.rl.algorithm.flow.golden import GOLDEN, latents, log_density

PATHS = GOLDEN["sampler_paths"]
ALLOWED = [path for path in PATHS["paths"] if 3 not in path["window"]]  # the last step is always an ODE's


def scheduler(shift: float = 1.0) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def stub(x: Tensor, timestep_B: Tensor) -> Tensor:
    return 0.5 * x - 0.25 * timestep_B.reshape(-1, 1, 1, 1) / 1000


@pytest.mark.parametrize("name", [key for key in GOLDEN["schedules"] if key != "about"])
def test_sigmas_are_those_of_the_scheduler_with_its_shift(name: str) -> None:
    steps, shift = (int(part.lstrip("stephif")) for part in name.split("_"))
    sigmas, timesteps_T = schedule(scheduler(shift), steps)
    assert sigmas == pytest.approx(GOLDEN["schedules"][name], abs=1e-6)
    assert timesteps_T.dtype == torch.float32 and timesteps_T.tolist() == pytest.approx(
        [1000 * sigma for sigma in sigmas[:-1]], abs=1e-3
    )


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 3, 30])
def test_euler_steps_are_painting_bit_for_bit(tiny_policy: Path, steps: int, shift: float) -> None:
    decoder = load_decoder(tiny_policy, torch.float32, "cpu")
    decoder.scheduler = scheduler(shift)
    hidden_BSD = torch.randn(2, 17, decoder.connector[0].in_features, generator=torch.Generator().manual_seed(0))
    found: list[Tensor] = []

    def ours(velocity: Any, noise: Tensor, scheduler: FlowMatchEulerDiscreteScheduler, steps: int) -> Tensor:
        sigmas, timesteps_T = schedule(scheduler, steps)
        ode = [euler_step(*pair) for pair in itertools.pairwise(sigmas)]
        found.append(walk_flow(velocity, noise, ode, timesteps_T, lambda _: pytest.fail("drawn noise")).latents)
        found.append(euler(velocity, noise, scheduler, steps))
        return found[0]

    wanted = decoder.paint(hidden_BSD, [3, 4], steps=steps)
    decoder.sampler = ours
    assert np.array_equal(decoder.paint(hidden_BSD, [3, 4], steps=steps), wanted)
    assert torch.equal(*found)


@pytest.mark.parametrize("path", ALLOWED, ids=lambda path: path["name"])
def test_golden_paths(path: Mapping[str, Any]) -> None:
    sigmas, timesteps_T = schedule(scheduler(), 4)
    chosen = path["window"]
    steps = (
        Window({"flow": "sde", "cps": "cps"}[path["kind"]], path["eta"], len(chosen), chosen[0]).steps(sigmas)
        if chosen
        else tuple(euler_step(*pair) for pair in itertools.pairwise(sigmas))
    )
    noise = [latents(rows) for rows in PATHS["noise_by_step"]]
    walked = walk_flow(stub, latents(PATHS["start"]), steps, timesteps_T, noise.__getitem__)
    close = torch.testing.assert_close
    close(walked.latents, latents(path["states"][4]), rtol=1e-5, atol=1e-6)
    assert walked.states.shape[1] == (len(chosen) + 1 if chosen else 0)
    for place, index in enumerate(chosen):
        close(walked.states[:, place], latents(path["states"][index]), rtol=1e-5, atol=1e-6)
        close(walked.states[:, place + 1], latents(path["states"][index + 1]), rtol=1e-5, atol=1e-6)
        step, drawn = walked.steps[place], walked.states[:, place + 1]
        wanted = torch.tensor(path["logp_mean_by_step"][str(index)])
        close(log_density(step, drawn, walked.means[:, place]), wanted, rtol=1e-5, atol=2e-6)
        moved = 0.501 * walked.states[:, place] - 0.25 * sigmas[index]
        replayed = log_density(step, drawn, step.mean(walked.states[:, place], moved))
        close(replayed, torch.tensor(path["logp_mean_by_step_scale_0.501"][str(index)]), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kind", ["sde", "cps"])
def test_a_picture_depends_on_its_own_noise_alone(kind: WindowKind) -> None:
    noise = torch.randn(5, 2, 4, 4)
    whole = trajectory(stub, noise, scheduler(), 10, Window(kind, 0.7, 3, start=1))
    halves = [trajectory(stub, part, scheduler(), 10, Window(kind, 0.7, 3, start=1)) for part in noise.split(2)]
    assert torch.equal(whole.latents, torch.cat([half.latents for half in halves]))
    assert torch.equal(whole.states, torch.cat([half.states for half in halves]))
    assert [round(step.sigma, 6) for step in whole.steps] == [0.9, 0.8, 0.7]


def test_a_replay_of_the_window_finds_every_mean_again() -> None:
    """What a ratio of exactly 1 stands on."""
    walked = trajectory(stub, torch.randn(3, 2, 4, 4), scheduler(), 8, Window("cps", 0.7, 2))
    for place, step in enumerate(walked.steps):
        state = walked.states[:, place]
        mean = step.mean(state, stub(state, torch.full((3,), 1000 * step.sigma)))
        assert torch.equal(step.log_ratio(walked.states[:, place + 1], mean, walked.means[:, place]), torch.zeros(3))


def test_fresh_noise_is_normal_and_of_each_step_another() -> None:
    start = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    first, second = fresh_noise(start, 0), fresh_noise(start, 1)
    for drawn in (first, second):
        assert abs(float(drawn.mean())) < 0.03 and abs(float(drawn.std()) - 1) < 0.03
    for one, other in ((first, second), (first, start), (first[:32], first[32:])):
        assert abs(float((one * other).mean())) < 0.03
    assert torch.equal(first, fresh_noise(start, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sampler", [sde, cps])
def test_samplers_ask_in_the_decoders_precision_and_keep_states_in_float32(sampler: Any, dtype: torch.dtype) -> None:
    noise = torch.randn(2, 2, 4, 4).to(dtype)

    def velocity(x: Tensor, timestep_B: Tensor) -> Tensor:
        assert x.dtype == dtype and timestep_B.dtype == torch.float32
        return stub(x, timestep_B).to(dtype)

    painted = sampler(velocity, noise, scheduler(), 4)
    assert painted.latents.dtype == painted.states.dtype == torch.float32 and painted.latents.isfinite().all()
    assert not torch.equal(painted.latents.to(dtype), euler(velocity, noise, scheduler(), 4))
    assert trajectory(velocity, noise, scheduler(), 4, Window("cps", 0.7, 2)).states.dtype == torch.float32


WRONG = [
    ({"size": 1, "eta": "high"}, "options.eta: must be a number above 0 and at most 1, got 'high' (0 is euler, which"),
    ({"size": "2"}, "options.window: must be a whole number of at least 1, got '2'"),
    ({"size": 1, "start": 0.5}, "options.start: must be a whole number of at least 0, got 0.5"),
    ({"size": 2, "start": 2}, "options.window: is 2 from step 2, which includes the last of 4 steps and would leave"),
    ({"size": 5}, "options.window: is 5 from step 0, which needs 6 steps or more, and there are 4; raise"),
    ({"size": 0}, "options.window: must be a whole number of at least 1, got 0"),
    ({"size": 1, "start": -1}, "options.start: must be a whole number of at least 0, got -1"),
    ({"size": 1, "eta": 0.0}, "options.eta: must be a number above 0 and at most 1, got 0.0"),
    ({"size": 1, "eta": 1.5}, "options.eta: must be a number above 0 and at most 1, got 1.5"),
    ({"size": 1, "eta": float("nan")}, "options.eta: must be a number above 0 and at most 1, got nan"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_a_window_that_cannot_be(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        Window(**{"kind": "cps", "eta": 0.7, **given}).steps((1.0, 0.75, 0.5, 0.25, 0.0))
    assert str(raised.value).startswith(f"render.sampler.{sentence}") and "\n" not in str(raised.value)


def test_a_scheduler_that_draws_noise_of_its_own_is_refused() -> None:
    with pytest.raises(UserError, match="stochastic_sampling and invert_sigmas must be false"):
        schedule(FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), 4)
