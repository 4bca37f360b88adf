"""One step of a sampler through a flow, as a Gaussian whose log-density is exact.

Notation: x_s = (1 - s) x0 + s eps, velocity v = eps - x0, s (sigma) falls from 1 to 0, s' is the next one, dt = s' - s.
Every sampler's step is affine in state and velocity: x' ~ N(x_weight x + v_weight v, std^2). With the clean latents and
the noise that v stands for, x0_hat = x - s v and eps_hat = x + (1 - s) v, the mean is also
(1 - s') x0_hat + eps_weight eps_hat, and eps_weight^2 + std^2 is the square of the noise that the step leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FlowStep:
    """x' ~ N(x_weight x + v_weight v, std^2) from ``sigma`` to ``sigma_next``; ``std`` 0 is an ODE step.

    ``euler_step(1.0, 0.75)`` is ``FlowStep(1.0, 0.75, x_weight=1.0, v_weight=-0.25, std=0.0)``.
    """

    sigma: float
    sigma_next: float
    x_weight: float
    v_weight: float
    std: float
    """The whole standard deviation of the step: the square root of |dt| is in it."""

    def mean(self, state: Tensor, flow: Tensor) -> Tensor:
        """In float32: a bfloat16 state would be wrong by more than one update changes."""
        return self.x_weight * state.float() + self.v_weight * flow.float()

    def log_ratio(self, state_next: Tensor, mean: Tensor, old_mean: Tensor) -> Tensor:
        """(B,) log-density of ``state_next`` around ``mean`` minus that around ``old_mean``, in nats, the **mean** over
        a latent's D numbers: a sum over 10^5 of them overflows in a ratio. As one product: the difference of two
        log-densities near 1 would lose what one update changes (1e-4) to float32. Exactly 0 where the means are equal.
        ``state_next`` is data and gets no gradient.
        """
        old_mean = old_mean.detach().float()
        moved = mean.float() - old_mean
        return row_means(moved * (2 * (state_next.detach().float() - old_mean) - moved)) / (2 * self._std() ** 2)

    def kl(self, mean: Tensor, other_mean: Tensor) -> Tensor:
        """(B,) KL per number of the latent between the steps of two policies, mean((mu - mu')^2) / (2 std^2): exact,
        for both have this ``std``. The code of Flow-GRPO divides by 2 g^2 instead, which makes |dt| times of it."""
        return row_means((mean.float() - other_mean.float()).square()) / (2 * self._std() ** 2)

    def _std(self) -> float:
        if self.std == 0:
            raise ValueError("an ODE step has no log-density: leave it out of the window")
        return self.std


def euler_step(sigma: float, sigma_next: float) -> FlowStep:
    """x' = x + dt v: the probability-flow ODE; rectified flow (arXiv 2209.03003), equation 1."""
    return FlowStep(sigma, sigma_next, 1.0, sigma_next - sigma, 0.0)


def sde_step(sigma: float, sigma_next: float, *, eta: float) -> FlowStep:
    """The SDE with the marginals of the flow: Flow-GRPO (arXiv 2505.05470), with g = eta sqrt(s / (1 - s)).

    x' = x + (v + g^2 / (2 s) (x + (1 - s) v)) dt + g sqrt(-dt) z. At s = 1 the next sigma stands for the s of 1 - s,
    and for no other. Exact for infinitely many steps: the fewer, the more noise it leaves beyond s', for which the
    model was trained (with 4 and eta .7 the first leaves .863 instead of .75), and the last leaves some in the picture.
    """
    g = eta * math.sqrt(sigma / (1 - (sigma_next if sigma == 1 else sigma)))
    dt, drift = sigma_next - sigma, g**2 / (2 * sigma)
    return FlowStep(sigma, sigma_next, 1 + drift * dt, (1 + drift * (1 - sigma)) * dt, g * math.sqrt(-dt))


def cps_step(sigma: float, sigma_next: float, *, eta: float) -> FlowStep:
    """Coefficients-preserving sampling (arXiv 2509.05952), with std = s' sin(eta pi / 2).

    x' = (1 - s') x0_hat + s' cos(eta pi / 2) eps_hat + std z. Exactly s' of noise is left, at any number of steps; in
    return it renoises a share of every step, so its law is narrower than the flow's. The paper's code drops constants
    and 1 / (2 std^2) of the log-density; here it is whole, and a clip that was tuned there means something else.
    """
    turn = eta * math.pi / 2
    kept = sigma_next * math.cos(turn)
    return FlowStep(
        sigma,
        sigma_next,
        (1 - sigma_next) + kept,
        -sigma * (1 - sigma_next) + (1 - sigma) * kept,
        sigma_next * math.sin(turn),
    )


def row_means(values: Tensor) -> Tensor:
    """(B, ...) -> (B,), over the numbers of each latent."""
    return values.flatten(1).mean(1)
