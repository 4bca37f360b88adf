from __future__ import annotations

import os
import re

import numpy as np
import pytest

from rewards.pictures import decode
from rewards.remote import wire
from rewards.serve import metrics
from rl.types import Sample, Score
from tests.rewards.pool.test_pool import samples


def test_the_metrics_are_prometheus_text() -> None:
    tally = metrics.Tally()
    tally.add(pictures=8, failures=1, seconds=0.25)
    tally.add(pictures=4, failures=0, seconds=0.5)
    requests = metrics.Requests()
    requests.by_status[413] += 2
    now = metrics.Snapshot(tally, queued=3, restarts=1, recycled=5, pids=(os.getpid(),))
    text = metrics.render(requests, {'a"b': now})
    lines = text.split("\n")
    for line in (
        'easel_reward_requests_total{status="413"} 2',
        'easel_reward_pictures_total{reward="a\\"b"} 12',
        'easel_reward_failures_total{reward="a\\"b"} 1',
        'easel_reward_queued{reward="a\\"b"} 3',
        'easel_reward_restarts_total{reward="a\\"b"} 1',
        'easel_reward_recycled_total{reward="a\\"b"} 5',
        'easel_reward_seconds_sum{reward="a\\"b"} 0.75',
        'easel_reward_seconds_count{reward="a\\"b"} 2',
    ):
        assert line in lines
    parser = pytest.importorskip("prometheus_client.parser", reason="checks the text with Prometheus' own parser")
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert families["easel_reward_seconds"].type == "summary"
    assert {sample.labels["process"] for sample in families["easel_reward_resident_bytes"].samples} == {
        "server",
        'worker a"b',
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
        body = wire.join_request("r", [wire.encode_sample(sample, encoding, {})], (), encoding)
        (row,) = wire.parse_request(body, wire.RequestLimits()).samples
        back = wire.to_sample(row, decode(row.picture.content(), encoding, max_pixels=35), {})
        assert (back.id, back.group, back.prompt) == ("s", "g", sample.prompt)
        assert (back.picture == picture).all()
        assert not back.picture.flags.writeable
