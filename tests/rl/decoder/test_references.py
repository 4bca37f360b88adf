"""A decoder that learns from edits is shown, in its update, the pictures that it was shown when it painted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.conditions import ATTENDED, BESIDE_NOISE, CHANNELS
from policy.decoder import Decoder
from policy.references.untrained import with_references
from rl.config.load import load
from rl.data.pictures import Picture
from rl.preflight.prompts import check_data
from rl.types import Experience, Renders, RunFailure, UserError
from tests.policy.editing import editing_policy
from tests.rl.decoder.test_part import B, K, experience, learned, made
from tests.rl.run_case import write_config

WINDOW: dict[str, Any] = {"loss": {"use": "flow_grpo"}, "micro_batch": 3}


@pytest.fixture(scope="module", params=[(ATTENDED, CHANNELS), (BESIDE_NOISE,)], ids="+".join)
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_policy: Path) -> Path:
    folder = tmp_path_factory.mktemp("seeing")
    policy = Policy.load(tiny_policy)
    policy.decoder.transformer.patch_embed.pos_embed = None  # beside the noise there is no room for positions
    policy.decoder.transformer.register_to_config(interpolation_scale=None)
    policy = with_references(policy, request.param)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        policy.decoder.transformer.patch_embed.proj.weight.data.normal_(std=0.2)
        if policy.decoder.reference is not None and policy.decoder.reference.connector is not None:
            policy.decoder.reference.connector[3].weight.data.fill_(2.0)
    policy.save(folder)
    return folder


def edits(decoder: Decoder) -> Experience:
    """Of three prompts the second changes nothing."""
    seen = experience(decoder)
    pictures = [(Picture(np.full((64, 64, 3), 30, np.uint8)),), (), (Picture(np.full((64, 64, 3), 220, np.uint8)),)]
    prompts = tuple(replace(one, pictures=two) for one, two in zip(seen.rollout.prompts, pictures, strict=True))
    references = [next(iter(one), None) for one in pictures for _ in range(K)]
    assert seen.rollout.hidden_BSD is not None
    hidden_BSD = seen.rollout.hidden_BSD.repeat_interleave(K, 0)
    drawn, trajectory = decoder.draw(hidden_BSD, seen.renders.seeds, steps=4, references=references)
    renders = Renders(drawn, seen.renders.seeds, K, trajectory)
    return replace(seen, rollout=replace(seen.rollout, prompts=prompts), renders=renders)


@pytest.mark.parametrize("options", [{}, WINDOW], ids=["nft", "flow_grpo"])
def test_what_is_replayed_is_what_was_painted(seeing: Path, options: Mapping[str, object]) -> None:
    part, decoder = made(seeing, train="all", **options)
    found = learned(part, edits(decoder))
    assert found.get("kl_painted", 0.0) < 1e-9 and found["teaching"] > 0
    assert decoder.reference is not None
    changed = {name for name, one in decoder.named_parameters() if one.grad is not None or one.requires_grad}
    assert (decoder.reference.connector is None) or any(name.startswith("reference.") for name in changed)


def test_another_reference_than_the_painted_one_stops_the_run(seeing: Path) -> None:
    part, decoder = made(seeing, **WINDOW)
    seen = edits(decoder)
    white = Picture(np.full((64, 64, 3), 255, np.uint8))
    other = tuple(replace(one, pictures=one.pictures and (white,)) for one in seen.rollout.prompts)
    with pytest.raises(RunFailure, match="are .* nats a number from those that were painted"):
        learned(part, replace(seen, rollout=replace(seen.rollout, prompts=other)))


def test_each_sequence_keeps_its_own_reference_in_every_update(seeing: Path) -> None:
    part, decoder = made(seeing, **WINDOW, updates_per_rollout=3)
    seen = edits(decoder)
    batches = []
    update = part.trainer.update
    part.trainer.update = lambda batch: (batches.append(batch), update(batch))[1]  # type: ignore
    learned(part, seen)
    assert len(batches) == B
    shown = [one.references for one in batches]
    assert [bool(one is not None and one.has_B.all()) for one in shown] == [True, False, True]
    wanted = decoder.encoded([one.pictures[0] for one in seen.rollout.prompts if one.pictures])
    for one, latents in zip((shown[0], shown[2]), wanted, strict=True):
        assert one is not None
        torch.testing.assert_close(one.values_BChw[0], latents)


def test_a_decoder_without_eyes_does_not_learn_from_edits(tmp_path: Path) -> None:
    policy = editing_policy(tmp_path / "policy")
    data = {
        "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4, "tags": ["edit_move"]}},
        "prompts_per_step": 2,
    }
    with pytest.raises(UserError) as caught:
        check_data(
            load(write_config(tmp_path, policy, data=data, trainers=["decoder"], render={"renders": 2, "steps": 4}))
        )
    assert str(caught.value) == (
        f"trainers: the decoder of '{policy}' does not see the pictures that are to be changed (reference in its "
        f"policy.json); train ar alone, or start from what python -m policy.references {policy} OUT writes, "
        "after a supervised run on edits"
    )
