"""Runs that train adapters send adapters: a follower with the base has the trainer's weights, to the last bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.lora.adapters import add_lora
from policy.lora.targets import adapter_parameters
from policy.trainable import LanguageModel
from rl.cluster.publisher import WeightPublisher
from rl.cluster.weights.base import BaseWeights
from rl.cluster.weights.follow import load_into
from rl.cluster.weights.merge import AdaptersBeside
from rl.cluster.weights.sets import DamagedWeights, set_folder
from rl.cluster.worker.replica import LanguageModelReplica
from rl.config.sections.lora import LoraSettings
from rl.trainer.answer import frozen
from rl.types import UserError
from rollout.weights import SyncError
from tests.rl.cluster.weights.sets_case import TinyFollower, opened
from tests.rl.trainer.trainer_case import LAYOUT, make_batch, make_trainer, tiny_ar, weights

LORA = LoraSettings(rank=4, alpha=8)
make = partial(make_trainer, lora=LORA, lr=1e-2, micro_batch=4)


class Engine(TinyFollower):
    follows = frozenset({"ar"})


def test_only_adapters_go_out_and_what_is_merged_is_what_the_trainer_has(tmp_path: Path) -> None:
    trainer = make()
    base, follower = BaseWeights(tiny_ar().state_dict()), Engine()
    linear = {name: module.weight.shape for name, module in tiny_ar().named_modules() if hasattr(module, "in_features")}
    trained = adapter_parameters(LORA, {name: shape for name, shape in linear.items() if name != "lm_head"})
    with opened(tmp_path) as store:
        publisher = WeightPublisher(store, {}, staleness=2, next=1)
        for version in (1, 2):
            trainer.update(make_batch(trainer))
            publisher.push("ar", trainer.weights(), version, {})
            with store.load(version) as found:
                (part,) = found.manifest.parts.values()
                assert all(".lora_" in one.name for one in part.tensors)
                assert sum(one.size for one in part.tensors) == 4 * trained
                assert part.size < sum(value.nbytes for value in base.tensors.values()) / 2
                load_into(follower, found, tolerance=1e-3, bases={"ar": base})
            held = follower.live("ar")
            assert all(torch.equal(held[name], value) for name, value in weights(trainer).items())
        follower.live("ar")["model.layers.1.mlp.up_proj.weight"].view(-1)[5] += 1e-3
        follower.load_weights = lambda *_: None  # type: ignore[method-assign]
        with (
            store.load(2) as found,
            pytest.raises(
                SyncError, match=r"version 2: the live parameter 'model.layers.1.mlp.up_proj.weight' of ar is"
            ),
        ):
            load_into(follower, found, tolerance=1e-3, bases={"ar": base})
        other = BaseWeights({"model.norm.weight": torch.ones(32)})
        with store.load(1) as found, pytest.raises(UserError, match="an adapter is for 'model.layers.0.self_attn.q_pr"):
            load_into(follower, found, tolerance=1e-3, bases={"ar": other})


def test_a_replica_with_adapters_computes_what_the_trainer_does_to_the_last_bit(tmp_path: Path) -> None:
    trainer, ar = make(), tiny_ar()
    model = LanguageModel(ar, LAYOUT.image, lora=add_lora(ar, LORA, seed=7, without=("lm_head",)))
    replica = LanguageModelReplica(model, frozen(model, trainer._config))
    base = BaseWeights(tiny_ar().state_dict())
    with opened(tmp_path) as store:
        publisher = WeightPublisher(store, {}, staleness=2, next=1)
        for version in (1, 2):
            trainer.update(batch := make_batch(trainer))
            publisher.push("ar", trainer.weights(), version, {})
            with store.load(version) as found:
                load_into(replica, found, tolerance=1e-3, bases={"ar": base}, adapted=AdaptersBeside)
            assert np.array_equal(replica.answer(batch), trainer.forward(batch).logprobs_BT.numpy())
        ar.model.norm.weight.data[0] += 1  # nobody sends the base: what happens to it is noticed all the same
        with (
            store.load(2) as found,
            pytest.raises(SyncError, match=r"version 2: the live parameter 'model.norm.weight' of ar is not what"),
        ):
            load_into(replica, found, tolerance=1e-3, bases={"ar": base}, adapted=AdaptersBeside)


@pytest.mark.parametrize("name", ["lora_A", "lora_B"])
def test_one_bit_of_an_adapter_is_caught_by_name(name: str, tmp_path: Path) -> None:
    trainer = make()
    trainer.update(make_batch(trainer))
    with opened(tmp_path) as store:
        WeightPublisher(store, {}, staleness=2, next=1).push("ar", trainer.weights(), 1, {})
        with store.load(1) as found:
            entry = next(one for one in found.manifest.parts["ar"].tensors if name in one.name)
        file = set_folder(store.folder, 1) / "ar.bin"
        file.chmod(0o644)
        content = bytearray(file.read_bytes())
        content[entry.start + 2] ^= 4
        file.write_bytes(content)
        with pytest.raises(DamagedWeights, match=f"weights of version 1: '{entry.name}' in .*is damaged"):
            store.load(1)


def test_the_base_of_a_part_has_the_names_of_its_weights(tiny_policy: Path) -> None:
    policy = Policy.load(tiny_policy)
    ar = BaseWeights.read(tiny_policy, "ar").tensors
    assert ar.keys() == policy.ar.state_dict().keys()
    rounded = BaseWeights.read(tiny_policy, "ar", torch.bfloat16).tensors
    assert all(torch.equal(rounded[name], value.bfloat16()) for name, value in policy.ar.state_dict().items())
    decoder = BaseWeights.read(tiny_policy, "decoder").tensors
    assert {name.partition(".")[0] for name in decoder} == {"connector", "transformer"}
    expected = policy.decoder.transformer.state_dict()
    assert {name.removeprefix("transformer.") for name in decoder if name.startswith("tr")} == expected.keys()


def test_machines_know_whether_they_have_the_same_base() -> None:
    one, same, other = tiny_ar().state_dict(), tiny_ar().state_dict(), tiny_ar(seed=1).state_dict()
    assert BaseWeights(one).fingerprint == BaseWeights(dict(reversed(same.items()))).fingerprint
    assert BaseWeights(one).fingerprint != BaseWeights(other).fingerprint
    swapped = {**one, "model.layers.0.mlp.up_proj.weight": one["model.layers.0.mlp.gate_proj.weight"]}
    swapped["model.layers.0.mlp.gate_proj.weight"] = one["model.layers.0.mlp.up_proj.weight"]
    assert BaseWeights(one).fingerprint != BaseWeights(swapped).fingerprint
