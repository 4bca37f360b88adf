"""A decoder that learns goes out in sets of its own: painters have its weights, or its adapters, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy.base import load_decoder
from policy.flow.network import FlowNetwork
from policy.flow.walk import FlowTrajectory
from policy.trainable import WeightStream
from rl.cluster.board import StepBoard
from rl.cluster.jobs import Painted, PaintJob, SetsThere, WorkerStart
from rl.cluster.packed import DrawnPictures, PackedRollout
from rl.cluster.publisher import WeightPublisher
from rl.cluster.weights.store import WeightStore
from rl.cluster.worker.held import base_of
from rl.cluster.worker.roles import PainterRole
from rl.config.load import load
from rl.config.schema import Config
from rl.decoder.build import flow_network
from rl.run_folder.usage import CallSpan
from rl.scheduler.work import GroupKey
from rl.types import Prompt, Renders, Rollout
from rollout.render import RecordingPainter, painted, render_seeds
from tests.rl.cluster.weights.sets_case import opened
from tests.rl.run_case import ROOT

LORA = "decoder.lora={rank: 2}"


def a_run(policy: Path, *overrides: str) -> Config:
    given = ["loop=ahead", "loop.in_turn=true", "trainers=[decoder]", "kl=null", "anchor=null"]
    given += ["render.renders=2", "render.steps=4"]
    return load(ROOT / "examples/geneval.yaml", [f"policy.path={policy}", *given, *overrides])


def a_rollout() -> Rollout:
    """Of two prompts, two samples each."""
    rng = np.random.default_rng(0)
    prompts = (Prompt("one", "a red circle"), Prompt("two", "a blue square"))
    tokens = rng.integers(0, 40, (4, 16)) + 100
    return Rollout(prompts, 2, ((5, 6), (5, 7)), tokens, np.zeros((4, 16), np.float32), (1, 2, 3, 4), 1.0, 0)


@contextmanager
def published(network: FlowNetwork, folder: Path, version: int) -> Iterator[WeightStore]:
    with opened(folder, "decoder-sets") as store:
        publisher = WeightPublisher(store, {}, staleness=0, next=version, part="decoder")
        weights, adapter = network.weights(), network.adapters().get("decoder")
        publisher.push("decoder", WeightStream(weights.shapes, weights.tensors, adapter=adapter), version, {})
        yield store


@pytest.mark.parametrize("overrides", [(), (LORA,)])
def test_a_painter_paints_and_draws_with_the_set_of_its_job(
    overrides: tuple[str, ...], tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = "render.sampler={use: cps, options: {eta: 0.7, window: 2}}"
    config = a_run(tiny_policy, window, "decoder.loss=flow_grpo", *overrides)
    assert config.trained_decoder is not None
    decoder = load_decoder(tiny_policy, torch.float32, "cpu")
    network = flow_network(config, config.trained_decoder, decoder)
    decoder.eval()
    with torch.no_grad():
        for weight in network.trained():
            weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    base = base_of("decoder", config).fingerprint if overrides else None
    with published(network, tmp_path, 3) as store:
        monkeypatch.setattr(WeightStore, "open", lambda *_, **__: store)
        start = WorkerStart(config, SetsThere("run", 0), 100, 1, 1e-3, decoder=SetsThere("run-decoder", 0, base))
        painter = PainterRole(start)
        rollout = a_rollout()
        told, found = painter.work(None, PaintJob(7, PackedRollout.of(rollout), drawn=True, decoder=3))
        assert isinstance(found, DrawnPictures) and (told.version, told.decoder) == (None, 3)
        hidden_BSD = painter._forward(_sequences(rollout)).hidden_BSD
        decoder.sampler, decoder.scheduler = painter._decoder.sampler, painter._decoder.scheduler
        decoder.put_channels_last()
        recorder = RecordingPainter(decoder)
        seeds = render_seeds(rollout, seed_mode=config.render.seed, renders=2, run_seed=config.run.seed, step=7)
        pictures = np.concatenate(list(painted(recorder, hidden_BSD, seeds, renders=2, steps=4)))
        expected = DrawnPictures.of(pictures, recorder.trajectory())
    assert told.seeds == seeds and found.steps == expected.steps
    for name in ("pictures", "latents", "states", "means"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def _sequences(rollout: Rollout) -> Any:
    from rl.rows import sequences

    return sequences(rollout)


def test_the_work_goes_on_when_both_parts_are_there(tmp_path: Path) -> None:
    said: list[int] = []
    for name in ("ar", "decoder"):
        (tmp_path / name).mkdir()
    with opened(tmp_path / "ar") as ar, opened(tmp_path / "decoder", "other") as other:
        beside = WeightPublisher(other, {}, staleness=0, part="decoder")
        publisher = WeightPublisher(ar, {}, staleness=0, beside=beside)

        def push(part: str, version: int) -> None:
            publisher.push(part, WeightStream.of([("w", torch.full((2,), float(version)))]), version, {})

        push("ar", 0)
        push("decoder", 0)
        publisher.stand_still(0)
        publisher.published = lambda: said.append(publisher.ready)
        push("ar", 1)
        assert said == []
        push("decoder", 1)
        assert said == [2]
        push("ar", 2)  # a step of the language model alone
        assert said == [2]
        publisher.stand_still(2)
        assert said == [2, 3]
        assert (publisher.sets, beside.sets) == ({0: 0, 1: 1, 2: 2}, {0: 0, 1: 1, 2: 1})
        publisher.drop(1)
        assert (ar.versions(), other.versions()) == ([2], [1])
        assert [publisher.following(part) for part in ("ar", "decoder", "third")] == [[], [], []]


def test_the_ways_to_a_steps_pictures_are_put_together_in_the_order_of_its_groups() -> None:
    rng = np.random.default_rng(0)
    ways = torch.from_numpy(rng.standard_normal((4, 3, 2, 2)).astype(np.float32))
    pictures = rng.integers(0, 255, (4, 8, 8, 3), np.uint8)
    whole = DrawnPictures.of(pictures, FlowTrajectory.without_window(ways))
    board = StepBoard(lambda key, rollout, pictures: None)  # type: ignore[arg-type, return-value]
    keys = [GroupKey(0, 0), GroupKey(0, 1)]
    call = CallSpan("painter-0", 0, 0.0, 1.0)
    board.sampled(keys, a_rollout(), None, call)
    for place in (1, 0):  # the second is painted first
        rows = slice(2 * place, 2 * place + 2)
        board.painted([keys[place]], whole.rows(rows), Painted(0, 1.0, (1, 2), (0.0,), ((0, 0),), 0), call)
    renders = board.take(keys).renders
    assert isinstance(renders, Renders) and isinstance(renders.trajectory, FlowTrajectory)
    np.testing.assert_array_equal(renders.pictures, pictures)
    assert torch.equal(renders.trajectory.latents, ways)
