"""The parts together: a flow of two numbers learns a reward by each algorithm, through its own sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from policy.flow.samplers import trajectory
from policy.flow.walk import Window
from policy.trajectory import euler
from rl.algorithm.copies import WeightCopy, nft_old
from rl.algorithm.flow.credit import decoder_advantages
from rl.algorithm.flow.flow_grpo import flow_grpo
from rl.algorithm.flow.nft import awm, nft, noised, velocity_mse

ROWS, RENDERS, STEPS, UPDATES = 32, 8, 10, 40


class Flow(nn.Module):
    """Paints x0 ~ N(hidden, .5^2) around two numbers per token sequence; what it can learn is a shift of the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 2, 1, 1))

    def forward(self, x: Tensor, timestep_B: Tensor, hidden: Tensor) -> Tensor:
        s = timestep_B.reshape(-1, 1, 1, 1) / 1000
        p = (s - (1 - s) * 0.25) / ((1 - s) ** 2 * 0.25 + s**2)
        return p * (x - (1 - s) * hidden) - hidden + self.shift


@dataclass
class Lesson:
    """One rollout after another; the reward likes a large first number and, strongly, certain token sequences."""

    network: Flow = field(default_factory=Flow)
    seen: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.02)

    def hidden(self) -> Tensor:
        return torch.randn(ROWS, 2, 1, 1).repeat_interleave(RENDERS, 0)

    def advantages(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """The decoder's: what a token sequence brings by itself is not its merit."""
        self.seen.append(float((latents - hidden)[:, 0].mean()))
        rewards_BK = (latents[:, 0] + 10 * hidden[:, 1]).reshape(ROWS, RENDERS)
        return decoder_advantages(rewards_BK, torch.ones_like(rewards_BK, dtype=torch.bool)).reshape(-1)

    def learn(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def on_the_forward_process(lesson: Lesson, algorithm: Callable[..., object]) -> None:
    network = lesson.network
    old = WeightCopy(network.named_parameters(), nft_old)
    for update in range(UPDATES):
        hidden, noise = lesson.hidden(), torch.randn(ROWS * RENDERS, 2, 1, 1)
        with old.lent():
            latents = euler(lambda x, t, h=hidden: network(x, t, h), noise, FlowMatchEulerDiscreteScheduler(), STEPS)
        advantages_N = lesson.advantages(latents, hidden)
        t_N = torch.randint(1, STEPS + 1, (len(latents),)) / STEPS
        x_t, target = noised(latents, torch.randn_like(latents), t_N)
        flow = network(x_t, 1000 * t_N, hidden)
        with old.lent():
            old_flow = network(x_t, 1000 * t_N, hidden)
        lesson.learn(algorithm(flow, old_flow, target, t_N, advantages_N).loss.mean())
        old.follow(update)


def on_a_window(lesson: Lesson, **options: object) -> None:
    network, reference = lesson.network, Flow()
    for _ in range(UPDATES):
        hidden, noise = lesson.hidden(), torch.randn(ROWS * RENDERS, 2, 1, 1)
        with torch.no_grad():
            velocity = lambda x, t, h=hidden: network(x, t, h)  # noqa: E731
            walked = trajectory(velocity, noise, FlowMatchEulerDiscreteScheduler(), STEPS, Window("cps", 0.7, 3))
        advantages_B = lesson.advantages(walked.latents, hidden)
        total = torch.zeros(())
        for place, step in enumerate(walked.steps):
            state, timestep_B = walked.states[:, place], torch.full((len(hidden),), 1000 * step.sigma)
            flow = network(state, timestep_B, hidden)
            drawn, old_mean = walked.states[:, place + 1], walked.means[:, place]
            mean, options = step.mean(state, flow), {"weights": "tempflow", **options}
            policy = flow_grpo(walked.steps, place, drawn, mean, old_mean, advantages_B, **options)
            assert policy.shown["ratio_deviation"].values.max() == 0  # one update per rollout
            pull = velocity_mse(flow, reference(state, timestep_B, hidden), beta=1e-3)
            total = total + (policy.loss + pull.loss).mean()
        lesson.learn(total)


@pytest.mark.parametrize("algorithm", [nft, awm])
def test_the_flow_learns_on_the_forward_process(algorithm: Callable[..., object]) -> None:
    lesson = Lesson()
    on_the_forward_process(lesson, algorithm)
    check(lesson)


@pytest.mark.parametrize("options", [{}, {"ratio_norm": True}, {"kl_mask": 1e-5}], ids=str)
def test_the_flow_learns_on_a_window(options: dict[str, object]) -> None:
    lesson = Lesson()
    on_a_window(lesson, **options)
    check(lesson)


def check(lesson: Lesson) -> None:
    """The first number rises by more than half its spread (.5); the second, which no reward asks for, stays."""
    assert abs(sum(lesson.seen[:3]) / 3) < 0.1
    assert sum(lesson.seen[-3:]) / 3 > 0.25
    asked, other = (-lesson.network.shift).flatten().tolist()
    assert asked > 0.2 and abs(other) < 0.5 * asked
