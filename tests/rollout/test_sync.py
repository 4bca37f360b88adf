"""Weights into the running engine: covered once, verified by the canary, refused by name."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.trainable import WeightStream
from rl.types import Prompt, Rollout, Sequences, UserError
from rollout.samplers.contract import EngineError
from rollout.sync import Canary, WeightSync
from rollout.weights import SyncError
from tests.rl.trainer.trainer_case import tiny_ar
from tests.rollout.sampling_engines import start_engine

PROMPTS = [
    Prompt("a", "two red circles"),
    Prompt("b", "a green star and a red ring and " * 5 + "a circle"),
]  # b fills a cache block


def perturb(policy: Policy, seed: int = 0, amount: float = 0.05) -> Policy:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.ar.parameters():
            weight.add_(amount * torch.randn(weight.shape, generator=generator))
    return policy


def logprobs(policy: Policy, rollout: Rollout, temperature: float = 1.0) -> np.ndarray:
    with torch.no_grad():
        tokens = torch.from_numpy(rollout.tokens_BT)
        ids = rollout.prompt_ids_per_sample()
        return image_forward(policy.ar, policy.layout.image, ids, tokens, temperature=temperature).logprobs_BT.numpy()


def canary(policy: Policy, rollout: Rollout, temperature: float = 1.0) -> dict[str, Canary]:
    rows = Sequences(rollout.prompt_ids_per_sample(), torch.from_numpy(rollout.tokens_BT), temperature)
    return {"logprobs": Canary(rows, logprobs(policy, rollout, temperature))}


def stream(policy: Policy) -> WeightStream:
    return WeightStream.of(policy.ar.state_dict().items())


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_new_weights_go_into_the_running_engine(engine: Any, policy: Policy, temperature: float) -> None:
    assert len(policy.text_ids(PROMPTS[1].text)) > 32  # long enough to be kept in vLLM's prefix cache
    before = engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    perturb(policy)
    sync = WeightSync([engine], tolerance=1e-4)
    assert 0 <= sync.push("ar", stream(policy), 5, canary(policy, before, temperature)) < 1e-4
    assert engine.version == 5
    # the prefix cached with the old weights is not used: sampling follows the new ones from the first token
    after = engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    assert after.version == 5
    assert not np.array_equal(after.tokens_BT, before.tokens_BT)
    assert np.abs(after.logprobs_BT - logprobs(policy, after)).max() < 1e-4


def changed(policy: Policy) -> WeightStream:
    """As it is after an update that has changed the attentions alone."""
    state = policy.ar.state_dict()
    some = WeightStream.of([(name, value) for name, value in state.items() if ".self_attn." in name])
    return replace(stream(policy), changing=some)


def perturb_attention(policy: Policy) -> Policy:
    with torch.no_grad():
        for name, weight in policy.ar.named_parameters():
            if ".self_attn.q_proj" in name:
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    return policy


def test_after_all_weights_have_come_the_changed_ones_do(engine: Any, policy: Policy) -> None:
    engine._had_all = False
    rollout = engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    sync = WeightSync([engine], tolerance=1e-4)
    perturb(policy)
    assert sync.push("ar", changed(policy), 1, canary(policy, rollout)) < 1e-4  # the first time all of them
    perturb_attention(policy)
    assert sync.push("ar", changed(policy), 2, canary(policy, rollout)) < 1e-4
    perturb(policy)  # more than was said: the canary notices
    with pytest.raises(SyncError, match=r"canary of version 3.*differ by"):
        sync.push("ar", changed(policy), 3, canary(policy, rollout))


def test_weights_go_into_an_engine_that_sleeps(engine: Any, policy: Policy) -> None:
    if engine.__class__.__name__ == "TorchSampler":
        with pytest.raises(UserError, match="rollout.sleep is 1, and this engine keeps its memory"):
            engine.sleep(1)
        return
    before = engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    engine.sleep(1)
    again = engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    assert np.array_equal(again.tokens_BT, before.tokens_BT)
    sync = WeightSync([engine], tolerance=1e-4)
    sync.push("ar", changed(policy), 1, canary(policy, before))
    engine.sleep(2)
    with pytest.raises(EngineError, match="dropped its weights"):
        engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    perturb(policy)  # all of them, though only some were said to change: it has forgotten the others
    assert sync.push("ar", changed(policy), 2, canary(policy, before)) < 1e-4


def test_a_skipped_sync_is_caught(engine: Any, policy: Policy) -> None:
    rollout = engine.sample(PROMPTS, 1, [1, 2])
    perturb(policy)
    sync = WeightSync([engine], tolerance=1e-3, enabled=False)
    with pytest.raises(SyncError, match=r"canary of version 6.*differ by [\d.]+ nats") as caught:
        sync.push("ar", stream(policy), 6, canary(policy, rollout))
    assert "still holds version 0 because sync.enabled is false: its weights are stale" in str(caught.value)


def test_the_wrong_temperature_is_caught(engine: Any, policy: Policy) -> None:
    perturb(policy)
    rollout = engine.sample(PROMPTS, 1, [1, 2])
    asked = canary(policy, rollout, 1.0)["logprobs"]
    wrong = {"logprobs": Canary(replace(asked.question, temperature=0.8), asked.expected)}
    with pytest.raises(SyncError, match="check that the trainer's log-probs come from these weights at this temp"):
        WeightSync([engine]).push("ar", stream(policy), 2, wrong)


def test_nan_from_the_trainer_is_a_disagreement(engine: Any, policy: Policy) -> None:
    rollout = engine.sample(PROMPTS, 1, [1, 2])
    asked = canary(policy, rollout)["logprobs"]
    with pytest.raises(SyncError, match="differ by nan nats"):
        WeightSync([engine]).push(
            "ar", stream(policy), 2, {"logprobs": replace(asked, expected=asked.expected * np.nan)}
        )


def test_a_rare_token_may_be_rounded_more() -> None:
    class Rounded:
        asked, versions, follows = "logprobs", {"ar": 1}, frozenset({"ar"})

        def load_weights(self, part: str, weights: WeightStream, version: int) -> None: ...

        def answer(self, question: object) -> np.ndarray:
            return np.array([[-0.5, -8.0]], np.float32) + self.by

        by = np.array([0.0, 0.0])

    engine, asked = Rounded(), {"logprobs": Canary(None, np.array([[-0.5, -8.0]], np.float32))}
    sync = WeightSync([engine], tolerance=0.2)  # type: ignore[list-item]
    engine.by = np.array([0.19, 0.75])
    assert sync.push("ar", WeightStream.of([]), 1, asked) == pytest.approx(0.75)
    engine.by = np.array([0.21, 0.0])
    with pytest.raises(SyncError, match=r"differ by 0\.21 nats \(tolerance 0\.2, at -0\.5\);"):
        sync.push("ar", WeightStream.of([]), 1, asked)
    engine.by = np.array([0.0, 0.9])
    with pytest.raises(SyncError, match=r"differ by 0\.9 nats \(tolerance 0\.8, at -8\);"):
        sync.push("ar", WeightStream.of([]), 1, asked)
    engine.by = np.array([0.21, 0.75])  # the one that is beyond its own limit is named, not the larger one
    with pytest.raises(SyncError, match=r"differ by 0\.21 nats \(tolerance 0\.2, at -0\.5\);"):
        sync.push("ar", WeightStream.of([]), 1, asked)
    engine.by = np.array([0.0, -np.inf])
    with pytest.raises(SyncError, match=r"differ by inf nats \(tolerance 0\.8, at -8\);"):
        sync.push("ar", WeightStream.of([]), 1, asked)


class Deep:
    """An engine in bfloat16 of 28 narrow layers of random weights, which may forget to take new ones."""

    follows, asked = frozenset({"ar"}), "logprobs"

    def __init__(self, ar: Qwen3ForCausalLM, *, takes: bool) -> None:
        self.ar, self.takes, self.versions = copy.deepcopy(ar).bfloat16(), takes, {"ar": 0}

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        if self.takes:
            self.ar.load_state_dict({name: value.bfloat16() for name, value in weights.tensors()})
        self.versions[part] = version

    def answer(self, question: object) -> np.ndarray:
        assert isinstance(question, torch.Tensor)
        with torch.no_grad():
            logprobs = self.ar(question).logits.float().log_softmax(-1)[:, :-1]
        return logprobs.gather(2, question[:, 1:, None])[..., 0].numpy()


@pytest.mark.parametrize("takes", [True, False])
def test_stale_weights_of_a_deep_model_in_bfloat16(takes: bool) -> None:
    """The update moves log-probs by less than bfloat16 may at this depth: the tolerance alone lets it pass."""
    ar = tiny_ar(num_hidden_layers=28)
    ids = torch.randint(0, 60, (4, 33), generator=torch.Generator().manual_seed(5))
    trainer, engine = Deep(ar, takes=True), Deep(ar, takes=takes)
    before = {"logprobs": Canary(ids, trainer.answer(ids))}
    with torch.no_grad():
        for index, weight in enumerate(ar.parameters()):
            weight.add_(3e-4 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(index)))
    trainer.load_weights("ar", WeightStream.of(ar.state_dict().items()), 1)
    asked = {"logprobs": Canary(ids, trainer.answer(ids))}
    weights, tolerance = WeightStream.of(ar.state_dict().items()), 0.1 * math.sqrt(28)
    sync = WeightSync([engine], tolerance=tolerance)
    assert sync.push("ar", weights, 1, asked) < tolerance  # as it was before, without a second look
    engine = Deep(tiny_ar(num_hidden_layers=28), takes=takes)
    sync = WeightSync([engine], tolerance=tolerance)
    assert sync.wants_before("ar") and not WeightSync([engine], asleep=True).wants_before("ar")
    if takes:
        sync.push("ar", weights, 1, asked, before)
        assert not sync.wants_before("ar")  # it has been seen to move
        return
    with pytest.raises(SyncError, match=r"trainer's log-probs have moved by up to [\d.]+ nats and not one of the engi"):
        sync.push("ar", weights, 1, asked, before)


def test_an_update_that_moves_nothing_proves_nothing(engine: Any, policy: Policy) -> None:
    rollout = engine.sample(PROMPTS, 1, [1, 2])
    asked, sync = canary(policy, rollout), WeightSync([engine])
    sync.push("ar", stream(policy), 1, asked, asked)
    assert sync.wants_before("ar")


NAME = "model.layers.1.mlp.up_proj.weight"
Pairs = list[tuple[str, torch.Tensor]]
BAD_UPDATES: dict[str, tuple[Callable[[Pairs], Pairs], str]] = {
    "missing": (lambda pairs: [pair for pair in pairs if pair[0] != NAME], f"are missing, first '{NAME}'"),
    "no head": (lambda pairs: [pair for pair in pairs if pair[0] != "lm_head.weight"], "first 'lm_head.weight'"),
    "unexpected": (lambda pairs: [*pairs, ("model.extra", torch.zeros(1))], "has no parameter 'model.extra'"),
    "twice": (lambda pairs: [*pairs, (NAME, dict(pairs)[NAME])], f"parameter '{NAME}' came twice"),
    "empty shard": (lambda pairs: [(n, w[:0] if n == NAME else w) for n, w in pairs], f"'{NAME}' has shape"),
    "nan": (lambda pairs: [(n, w * np.nan if n == NAME else w) for n, w in pairs], f"'{NAME}' holds NaN"),
}


@pytest.mark.parametrize("how", BAD_UPDATES)
def test_a_bad_update_is_refused_by_name_and_changes_nothing(engine: Any, policy: Policy, how: str) -> None:
    before = engine.sample(PROMPTS, 1, [1, 2])
    perturb(policy)
    damage, sentence = BAD_UPDATES[how]
    damaged = WeightStream.of(damage(list(policy.ar.state_dict().items())))
    with pytest.raises(SyncError, match=sentence):
        WeightSync([engine]).push("ar", damaged, 9, canary(policy, before))
    after = engine.sample(PROMPTS, 1, [1, 2])
    assert engine.version == 0
    assert np.array_equal(after.logprobs_BT, before.logprobs_BT)


@pytest.mark.parametrize("name", ["torch", "vllm"])
def test_tied_embeddings_and_a_second_engine_in_the_same_process(name: str, tmp_path: Path) -> None:
    from policy.shapes.model import make_random

    policy = Policy.load(make_random(tmp_path / "tied", seed=3, tied=True))
    threads, state = torch.set_num_threads, torch.get_rng_state()
    engine = start_engine(name, policy.folder, policy, max_num_seqs=8)
    assert torch.set_num_threads is threads
    assert torch.equal(state, torch.get_rng_state())
    rollout = engine.sample(PROMPTS, 2, [1, 2, 3, 4])
    perturb(policy)
    assert "lm_head.weight" in dict(stream(policy).shapes)
    WeightSync([engine], tolerance=1e-4).push("ar", stream(policy), 1, canary(policy, rollout))
    engine.close()
    engine.close()  # twice is fine
    with pytest.raises(EngineError, match="was closed; start a new one"):
        engine.sample(PROMPTS, 1, [1, 2])
    second = start_engine(name, policy.folder, policy, max_num_seqs=8)
    assert np.array_equal(second.sample(PROMPTS, 2, [1, 2, 3, 4]).tokens_BT, rollout.tokens_BT)
    second.close()
