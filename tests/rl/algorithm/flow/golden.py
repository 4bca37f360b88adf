"""Numbers computed apart from this code, in float64 with numpy alone (``golden.json`` says what each of them is)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from policy.flow.steps import FlowStep, cps_step, euler_step, sde_step

GOLDEN: Mapping[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
ADVANTAGES = torch.tensor(GOLDEN["inputs"]["advantages"])


def latents(rows: Sequence[Sequence[float]]) -> Tensor:
    """(B, 4) numbers as (B, 1, 2, 2) latents, float32."""
    return torch.tensor(rows).reshape(-1, 1, 2, 2)


def of(*path: str) -> Tensor:
    """The tensor under ``inputs``."""
    found = GOLDEN["inputs"]
    for key in path:
        found = found[key]
    return latents(found)


def made(case: Mapping[str, Any]) -> FlowStep:
    """Our step of a golden case."""
    steps = {"flow": partial(sde_step, eta=case["eta"]), "cps": partial(cps_step, eta=case["eta"]), "ode": euler_step}
    return steps[case["kind"]](case["sigma"], case["sigma_next"])


def log_density(step: FlowStep, drawn: Tensor, mean: Tensor) -> Tensor:
    """(B,) of the step's Gaussian, the mean over a latent's numbers."""
    return Normal(mean, step.std).log_prob(drawn).flatten(1).mean(1)


def stochastic_cases() -> Iterator[Mapping[str, Any]]:
    """Those with a log-density."""
    return (case for case in GOLDEN["sde_steps"]["cases"] if case["std"] > 0)


def name(case: Mapping[str, Any]) -> str:
    return f"{case['kind']}-{case['sigma']}-{case['sigma_next']}"
