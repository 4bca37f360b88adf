"""Starts either engine on a policy folder; skips where vLLM is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from policy.base import Policy


def start_engine(name: str, folder: Path, policy: Policy, **options: Any) -> Any:
    if name == "vllm":
        if importlib.util.find_spec("vllm") is None:
            pytest.skip("vLLM is not installed")
        from rollout.samplers.vllm_sampler import VllmSampler

        return VllmSampler(folder, policy.layout, encode=policy.encode_prompt, **options)
    from rollout.samplers.torch_sampler import TorchSampler

    return TorchSampler(folder, policy.layout, encode=policy.encode_prompt, **options)
