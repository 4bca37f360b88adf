from __future__ import annotations

import os
import re

import numpy as np
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rewards.pictures import decode
from rewards.remote import wire
from rewards.remote.request_pictures import PromptPictures
from rewards.serve.metrics import ServerMetrics
from rl.types import Sample, Score
from tests.rewards.pool.test_pool import samples


def test_the_metrics_are_prometheus_text_and_read_at_the_moment_of_asking() -> None:
    metrics, queued = ServerMetrics(), [3]
    metrics.add_reward(
        'a"b', queued=lambda: queued[0], pids=lambda: (os.getpid(),), restarts=lambda: 1, recycled=lambda: 5
    )
    metrics.add_reward("idle", queued=lambda: 0, pids=lambda: (), restarts=lambda: 0, recycled=lambda: 0)
    metrics.requests.labels("413").inc(2)
    metrics.pictures.labels('a"b').inc(12)
    metrics.failures.labels('a"b').inc(1)
    for seconds in (0.25, 0.5):
        metrics.seconds.labels('a"b').observe(seconds)
    queued[0] = 4
    families = {one.name: one for one in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    assert {name: family.type for name, family in families.items()} == {
        "easel_reward_requests": "counter",
        "easel_reward_pictures": "counter",
        "easel_reward_failures": "counter",
        "easel_reward_restarts": "counter",
        "easel_reward_recycled": "counter",
        "easel_reward_queued": "gauge",
        "easel_reward_seconds": "summary",
        "easel_reward_resident_bytes": "gauge",
    }
    found = {
        (sample.name.removeprefix("easel_reward_"), *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    resident = {key: found.pop(key) for key in list(found) if key[0] == "resident_bytes"}
    assert set(resident) == {("resident_bytes", process) for process in ("server", 'worker a"b', "worker idle")}
    assert resident["resident_bytes", "server"] > 2**20 and resident["resident_bytes", "worker idle"] == 0
    assert found == {
        ("requests_total", "413"): 2,
        ("pictures_total", 'a"b'): 12,
        ("failures_total", 'a"b'): 1,
        ("restarts_total", 'a"b'): 1,
        ("recycled_total", 'a"b'): 5,
        ("queued", 'a"b'): 4,
        ("seconds_sum", 'a"b'): 0.75,
        ("seconds_count", 'a"b'): 2,
        **{(f"{name}_total", "idle"): 0 for name in ("pictures", "failures", "restarts", "recycled")},
        **{(name, "idle"): 0 for name in ("queued", "seconds_sum", "seconds_count")},
    }


def test_no_nan_in_an_answer_and_none_is_accepted() -> None:
    scores = [
        Score(0.5, details={"a": float("nan"), "b": [1, float("inf")], "c": "\ud800"}, passed=1.0),
        Score(None, failure="died", details={"n": 1}),
        Score(None),
    ]
    content = wire.answer_json("r", ["x", "y", "z"], scores)
    assert b"NaN" not in content
    read = wire.parse_answer(content, ["x", "y", "z"])
    assert read == [Score(0.5, details={"a": None, "b": [1, None], "c": "?"}, passed=1.0), *scores[1:]]
    for wrong, message in (
        (content.replace(b"0.5", b"NaN"), "is no answer of a reward server: scores[0].value: Input should be a finite"),
        (b"{}", "is no answer of a reward server: reward: Field required"),
        (b"<html>", "is no answer of a reward server: Invalid JSON: expected value"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            wire.parse_answer(wrong, ["x", "y", "z"])
    for ids, difference in ((["x", "z", "y"], "'y' instead of 'z'"), (["x"], "3 scores for 1 samples")):
        with pytest.raises(ValueError, match=re.escape(f"is for other samples than were sent ({difference})")):
            wire.parse_answer(content, ids)


def test_a_sample_survives_the_way_there_bit_by_bit() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    sample = Sample("s", "g", samples()[0].prompt, picture)
    for encoding in ("png", "npy"):
        body = wire.join_request("r", [wire.encode_sample(sample, encoding, PromptPictures())], (), encoding)
        (row,) = wire.parse_request(body, wire.RequestLimits()).samples
        back = wire.to_sample(row, decode(row.picture.content(), encoding, max_pixels=35), {})
        assert (back.id, back.group, back.prompt) == ("s", "g", sample.prompt)
        assert (back.picture == picture).all()
        assert not back.picture.flags.writeable
