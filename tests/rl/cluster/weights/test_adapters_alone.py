"""Runs that train adapters send adapters: a follower with the base has the trainer's weights, to the last bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from policy.base import Policy
from rl.cluster.weights.follow import base_weights, load_into
from rl.config.sections.lora import LoraSettings
from rl.types import UserError
from rollout.weights import SyncError
from tests.rl.cluster.weights.sets_case import TinyFollower, opened
from tests.rl.trainer.trainer_case import make_batch, make_trainer, tiny_ar, weights

LORA = LoraSettings(rank=4, alpha=8)
make = partial(make_trainer, lora=LORA, lr=1e-2, micro_batch=4)


class Engine(TinyFollower):
    follows = frozenset({"ar"})


def test_only_adapters_go_out_and_what_is_merged_is_what_the_trainer_has(tmp_path: Path) -> None:
    trainer = make()
    base, follower = tiny_ar().state_dict(), Engine()
    with opened(tmp_path) as store:
        for version in (1, 2):
            trainer.update(make_batch(trainer))
            adapter = trainer.adapter()
            assert adapter is not None
            manifest = store.publish(version, {}, adapters={"ar": adapter})
            assert all(".lora_" in one.name for one in manifest.parts["ar"].tensors)
            assert manifest.size < sum(value.nbytes for value in base.values()) / 2
            with store.load(version) as found:
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
        with store.load(1) as found, pytest.raises(UserError, match="an adapter is for 'model.layers.0.self_attn.q_pr"):
            load_into(follower, found, tolerance=1e-3, bases={"ar": {"model.norm.weight": torch.ones(32)}})


def test_the_base_of_a_part_has_the_names_of_its_weights(tiny_policy: Path) -> None:
    policy = Policy.load(tiny_policy)
    ar = base_weights(tiny_policy, "ar")
    assert ar.keys() == policy.ar.state_dict().keys()
    decoder = base_weights(tiny_policy, "decoder")
    assert {name.partition(".")[0] for name in decoder} == {"connector", "transformer"}
    expected = policy.decoder.transformer.state_dict()
    assert {name.removeprefix("transformer.") for name in decoder if name.startswith("tr")} == expected.keys()
