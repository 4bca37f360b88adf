"""A sampler that sleeps while others learn, with vLLM's seam recorded: the order, and what is caught on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policy.ar.forward import parameter_shapes
from policy.folder import read_policy_config
from policy.trainable import WeightStream
from rl.types import Sequences
from rollout.samplers import vllm_sampler
from rollout.samplers.contract import EngineError
from rollout.samplers.vllm_sampler import VllmSampler
from rollout.sync import Canary, WeightSync
from rollout.weights import SyncError
from tests.rollout.test_nap import FakeEngine


class RecordingEngine(FakeEngine):
    """The model inside as well: what is done to it, and its weights. ``loses``: a parameter that new weights miss."""

    def __init__(self, weights: dict[str, Tensor], loses: str = "") -> None:
        super().__init__()
        self.weights, self.loses = weights, loses

    def apply_model(self, function: Callable[[Any], object]) -> list[object]:
        return [function(self)]

    def collective_rpc(self, name: str, kwargs: dict[str, Any]) -> None:
        assert name == "reload_weights"
        self.calls.append("weights go in")
        self.weights.update({name: value.clone() for name, value in kwargs["weights_iterator"] if name != self.loses})

    def generate(self, prompts: list[object], params: object, use_tqdm: bool) -> list[object]:
        self.calls.append("compute")
        return prompts

    # --- its model

    def checkpoint_names(self) -> set[str]:
        return set(self.weights)

    def live_parameters(self) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        self.calls.append("add up")
        for name, value in self.weights.items():
            yield (name,), value

    def keep_states(self) -> None: ...

    def take_bad_positions(self) -> int:
        return 0

    def take_logprobs(self, tokens: list[int], before: int, temperature: float) -> Tensor:
        return torch.zeros(len(tokens))


@pytest.fixture
def case(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[VllmSampler, RecordingEngine]:
    """As on a GPU."""
    engine = RecordingEngine({name: torch.zeros(shape) for name, shape in parameter_shapes(tiny_policy / "ar").items()})
    monkeypatch.setattr(vllm_sampler, "_start", lambda *_: engine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))
    layout, _ = read_policy_config(tiny_policy)
    return VllmSampler(tiny_policy, layout, encode=lambda prompt: pytest.fail(prompt.id), sleeps=True), engine


def push(sampler: VllmSampler, engine: RecordingEngine, version: int) -> None:
    layout = sampler.layout
    ids = (3, 4, layout.image_start_id - 1)
    tokens = torch.full((1, 4), layout.image_start_id)
    canary = Canary(Sequences([ids], tokens, 1.0, layout.image.up_to(4)), np.zeros((1, 4), np.float32))
    weights = WeightStream.of([(name, torch.full(shape, float(version))) for name, shape in sampler._shapes.items()])
    WeightSync([sampler], asleep=True).push("ar", weights, version, {"logprobs": canary})


@pytest.mark.parametrize("level", [1, 2])
def test_the_order_of_a_step_that_shares_a_gpu(case: tuple[VllmSampler, RecordingEngine], level: int) -> None:
    sampler, engine = case
    for version in (1, 2):
        engine.calls.clear()
        sampler.sleep(level)
        engine.calls.append("train")
        push(sampler, engine, version)
        assert engine.calls == [
            f"sleep {level}",
            "train",
            "wake weights",
            "weights go in",
            "add up",
            "wake kv_cache",
            "forget prefixes",
            "compute",
        ]
        assert all(bool((value == version).all()) for value in engine.weights.values())


def test_a_parameter_that_did_not_arrive_is_named_before_anything_is_computed(
    case: tuple[VllmSampler, RecordingEngine],
) -> None:
    sampler, engine = case
    sampler.sleep(2)
    engine.loses = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(SyncError) as caught:
        push(sampler, engine, 7)
    assert str(caught.value) == (
        "weights of version 7: the live parameter 'model.layers.1.mlp.up_proj.weight' of ar is not what the trainer "
        "holds (the exact sums of the bits differ), so the engine must not be asked; load them again."
    )
    assert engine.calls == ["sleep 2", "wake weights", "weights go in", "add up"]


def test_an_engine_that_sleeps_is_not_asked_before_new_weights(case: tuple[VllmSampler, RecordingEngine]) -> None:
    sampler, engine = case
    assert WeightSync([sampler]).wants_before("ar")
    assert not WeightSync([sampler], asleep=True).wants_before("ar")
    sampler.sleep(2)
    with pytest.raises(EngineError, match="none came"):
        sampler.logprobs([(3, 4)], np.full((1, 4), sampler.layout.image_start_id), span=sampler.layout.image.up_to(4))
    assert engine.calls == ["sleep 2"]
