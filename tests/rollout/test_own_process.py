"""An engine in a process of its own answers as the same one here, and its end is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from policy.base import Policy
from policy.trainable import WeightStream
from rl.types import Prompt, Rollout, Span, UserError
from rollout.proof import sums_of
from rollout.samplers import own_process
from rollout.samplers.contract import EngineError, Sampler
from rollout.samplers.own_process import SamplerProcess, _Drawn, _telling
from rollout.weights import SyncError
from tests.rollout.sampling_engines import start_engine

PROMPTS, SEEDS = [Prompt("a", "two red circles"), Prompt("b", "a")], [3, 1, 4, 1]


@pytest.fixture(scope="module")
def away(tiny_policy: Path) -> Iterator[SamplerProcess]:
    policy = Policy.load(tiny_policy)
    sampler = SamplerProcess("torch", tiny_policy, policy.layout, encode=policy.encode_prompt)
    yield sampler
    sampler.close()
    sampler.close()  # twice is fine


def sampled(engine: Sampler) -> Rollout:
    return engine.sample(PROMPTS, 2, SEEDS)


def test_it_samples_scores_and_takes_weights_as_the_engine_here_does(
    away: SamplerProcess, policy: Policy, folder: Path
) -> None:
    here = start_engine("torch", folder, policy)
    first, theirs = sampled(here), sampled(away)
    assert np.array_equal(first.tokens_BT, theirs.tokens_BT) and np.array_equal(first.logprobs_BT, theirs.logprobs_BT)
    moved = WeightStream.of([(name, value * 1.1) for name, value in policy.ar.state_dict().items()])
    for engine in (here, away):
        engine.load_weights("ar", moved, 1)
    after, theirs = sampled(here), sampled(away)
    assert not np.array_equal(first.logprobs_BT, after.logprobs_BT)
    assert np.array_equal(after.tokens_BT, theirs.tokens_BT) and theirs.version == 1
    ids = after.prompt_ids_per_sample()
    assert np.array_equal(away.logprobs(ids, after.tokens_BT), here.logprobs(ids, after.tokens_BT))
    assert away.live_sums("ar") == here.live_sums("ar") == sums_of(moved.tensors())


def test_after_all_weights_have_come_only_those_that_changed_travel(
    away: SamplerProcess, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    travelled: list[list[str]] = []
    written = own_process._written

    def noted(weights: WeightStream, file: Any) -> Iterator[Any]:
        travelled.append([name for name, _ in weights.shapes])
        return written(weights, file)

    monkeypatch.setattr(own_process, "_written", noted)
    state = policy.ar.state_dict()
    moved = {name: value * 1.3 for name, value in state.items() if ".self_attn.q_proj." in name}
    first = WeightStream.of(state.items())
    away.load_weights("ar", first, 2)
    before = sampled(away)
    now = replace(WeightStream.of((state | moved).items()), changing=WeightStream.of(moved.items()))
    away.load_weights("ar", now, 3)
    assert travelled == [list(state), list(moved)] and away.version == 3
    assert not np.array_equal(sampled(away).logprobs_BT, before.logprobs_BT)
    monkeypatch.setattr(away, "_has_all", lambda: False)  # as after a sleep that dropped them
    away.load_weights("ar", now, 4)
    assert travelled[2:] == [list(state)]
    away.load_weights("ar", first, 5)
    assert np.array_equal(sampled(away).logprobs_BT, before.logprobs_BT)


def test_what_it_refuses_it_refuses_here(away: SamplerProcess, policy: Policy) -> None:
    with pytest.raises(UserError, match="does not fit this policy"):
        away.sample(PROMPTS, 2, SEEDS, span=Span(0, 10**9, length=1))
    named = list(policy.ar.state_dict().items())
    with pytest.raises(SyncError, match=named[-1][0]):
        away.load_weights("ar", WeightStream.of(named[:-1]), 2)
    assert sampled(away).batch_size == 4


def test_what_is_told_while_it_samples_is_no_answer(
    away: SamplerProcess, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, str]] = []
    monkeypatch.setattr(away, "progress", lambda *far: told.append(far))
    answers = [(_Drawn(8), None), (_Drawn(20), None), ("answer", None)]
    monkeypatch.setattr(away, "_there", SimpleNamespace(poll=lambda _: True, recv=lambda: answers.pop(0)))
    away._drawn, away._wanted = 0, 24
    assert away._receive() == "answer"
    assert told == [(8, 24, "tokens"), (20, 24, "tokens")]


def test_it_tells_how_many_it_has_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "_TELL_S", 0.0)
    here, there = Pipe()
    _telling(there, SimpleNamespace(_drawn=12))(0, 0, "tokens")
    assert here.recv() == (_Drawn(12), None)


def test_one_that_cannot_start_says_why(policy: Policy) -> None:
    with pytest.raises(EngineError, match=r"failed in its own process: TypeError: .*'depth'"):
        SamplerProcess("torch", policy.folder, policy.layout, encode=policy.encode_prompt, depth=3)


def test_a_killed_engine_is_named(away: SamplerProcess) -> None:
    (process,) = [one for one in psutil.Process().children() if one.pid == away._process.pid]
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="the sampling engine torch is gone: its process was killed by signal 9"):
        sampled(away)
    with pytest.raises(EngineError, match="torch cannot be used any more: its process was killed by signal 9"):
        sampled(away)
