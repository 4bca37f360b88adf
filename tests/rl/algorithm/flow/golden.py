"""Numbers computed apart from this code, in float64 with numpy alone (``golden.json`` says what each of them is)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
    sigma, sigma_next, eta = case["sigma"], case["sigma_next"], case["eta"]
    if case["kind"] == "flow":
        return sde_step(sigma, sigma_next, eta=eta)
    return cps_step(sigma, sigma_next, eta=eta) if case["kind"] == "cps" else euler_step(sigma, sigma_next)


def stochastic_cases() -> Iterator[Mapping[str, Any]]:
    """Those with a log-density."""
    return (case for case in GOLDEN["sde_steps"]["cases"] if case["std"] > 0)


def name(case: Mapping[str, Any]) -> str:
    return f"{case['kind']}-{case['sigma']}-{case['sigma_next']}"
