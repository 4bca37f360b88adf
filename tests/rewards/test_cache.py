"""Scores on disk by content."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.cache import ScoreCache, content_hash
from rewards.pool.pool import RewardPool
from rewards.pool.version import _named, reward_version
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.data.pictures import Picture
from rl.data.prompts import jsonl
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.pool.test_pool_batches import PLUGINS, levels, log_of, samples, values

SCORE = Score(0.1 + 0.2, details={"found": "né", "checks": [{"ok": True, "at": 1e-17}], "n": 3}, passed=1 / 3)


def sample(level: int = 3, text: str = "a red circle", **metadata: Any) -> Sample:
    return Sample("s0", "g0", Prompt("p0", text, metadata), np.full((4, 6, 3), level, np.uint8))


def key(cache: ScoreCache, of: Sample, options: Mapping[str, Any] | None = None, version: str = "1") -> str:
    (found,) = cache.keys(RewardComponent(use="ocr", options=options or {}), version, [content_hash(of)])
    assert found is not None
    return found


def test_what_goes_in_comes_out_to_the_bit_also_after_a_restart(tmp_path: Path) -> None:
    cache = ScoreCache(str(tmp_path), 8)
    ours = key(cache, sample())
    assert cache.get(ours) is None
    cache.put([ours, "not applicable"], "1", [SCORE, Score(None)], "1")
    assert cache.get(ours) == SCORE
    cache.close()
    again = ScoreCache(str(tmp_path), 8)
    assert key(again, sample()) == ours
    assert again.get(ours) == SCORE
    assert again.get("not applicable") == Score(None)


def test_failures_and_the_scores_of_other_code_are_not_kept(tmp_path: Path) -> None:
    cache = ScoreCache(str(tmp_path), 8)
    cache.put(["a", None], "1", [Score(None, failure="timed out"), SCORE], "1")
    cache.put(["b"], "1", [SCORE], "2")
    assert cache.get("a") is cache.get("b") is cache.get(None) is None


def test_everything_that_a_score_may_depend_on_is_in_the_key(tmp_path: Path) -> None:
    cache = ScoreCache(str(tmp_path), 8)
    turned = Sample("s0", "g0", sample().prompt, sample().picture.reshape(6, 4, 3))
    reference = np.zeros((2, 2, 3), np.uint8)
    keys = [
        key(cache, sample()),
        key(cache, sample(4)),
        key(cache, turned),
        key(cache, sample(text="a blue circle")),
        key(cache, sample(tag="colors")),
        key(cache, sample(reference=reference)),
        key(cache, sample(reference=reference + 1)),
        key(cache, sample(), {"grading": "lenient"}),
        key(cache, sample(), version="2"),
        cache.keys(RewardComponent(use="geneval"), "1", [content_hash(sample())])[0],
    ]
    assert len(set(keys)) == len(keys)
    other = Sample("s9", "g9", Prompt("p9", "a red circle"), sample().picture)
    assert key(cache, other) == keys[0]  # ids do not matter
    assert key(cache, sample(a=1, b=2)) == key(cache, sample(b=2, a=1))
    assert content_hash(sample(thing=object())) is None
    assert cache.keys(RewardComponent(use="ocr", options={"thing": object()}), "1", ["x"]) == [None]


@pytest.mark.parametrize("entry", ["{", "[1]", '["0.5", {}, null]', "[0.5, null, null]", "7", b"\x00", 0.5, ("a",)])
def test_a_damaged_entry_is_scored_again(entry: object, tmp_path: Path) -> None:
    cache = ScoreCache(str(tmp_path), 8)
    cache._texts._disk.set("k", entry)
    assert cache.get("k") is None
    cache.put(["k"], "1", [SCORE], "1")
    assert cache.get("k") == SCORE


class Bomb:
    opened = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Bomb, "opened", True))


def test_a_pickle_in_the_folder_is_never_opened(tmp_path: Path) -> None:
    cache = ScoreCache(str(tmp_path), 8)
    cache._texts._disk.set("k", Bomb())
    assert cache.get("k") is None
    assert not Bomb.opened
    pickle.loads(pickle.dumps(Bomb()))
    assert Bomb.opened  # it would have gone off


def test_a_folder_that_is_no_cache_is_the_users_to_repair(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_text("not a database, but long enough to be read as the header of one " * 20)
    with pytest.raises(UserError) as caught:
        ScoreCache(str(tmp_path), 8)
    assert str(caught.value).startswith(f"reward_pool.cache: the folder '{tmp_path}' cannot be used (")
    assert str(caught.value).endswith("); delete it or name another")


def test_a_disk_that_breaks_costs_the_cache_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ScoreCache(str(tmp_path), 8)

    def broken(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(cache._texts._disk, "get", broken)
    with caplog.at_level(logging.WARNING):
        assert cache.get("k") is None
        assert cache.get("k") is None
    assert [record.getMessage() for record in caplog.records] == [
        f"reward_pool.cache: {tmp_path} failed (disk I/O error); this run goes on without it"
    ]


def test_the_folder_stays_below_its_limit(tmp_path: Path) -> None:
    cache = ScoreCache(str(tmp_path), 1)
    large = Score(1.0, details={"text": "x" * 20_000})
    for index in range(150):  # 3 MB in all
        cache.put([f"k{index}"], "1", [large], "1")
    assert (tmp_path / "cache.db").stat().st_size <= 2**20  # beside it lies sqlite's journal of 4 MB
    assert cache.get("k149") == large


def test_the_pool_asks_a_reward_only_for_what_it_has_not_seen(tmp_path: Path) -> None:
    log, folder = tmp_path / "calls", str(tmp_path / "cache")
    reward = RewardComponent(use=f"{PLUGINS}:calls", options={"log": str(log)})
    other = RewardComponent(use=f"{PLUGINS}:Versioned")
    with RewardPool({"c": reward, "n": other}, RewardPoolConfig(cache=folder)) as pool:
        first = pool.score(samples(4))
        assert pool.score(samples(4)) == first
        assert values(pool.score(samples(6, first=2))["c"]) == levels(8)[2:]
    with RewardPool({"c": reward, "n": other}, RewardPoolConfig(cache=folder)) as pool:
        assert pool.score(samples(8)) == {"c": [Score(value) for value in levels(8)], "n": [Score(None)] * 8}
    with RewardPool(
        {"c": RewardComponent(use=reward.use, options={**reward.options, "seconds": 0.01})},
        RewardPoolConfig(cache=folder),
    ) as pool:
        assert values(pool.score(samples(2))["c"]) == levels(2)
    assert log_of(log) == [["s0", "s1", "s2", "s3"], ["s4", "s5", "s6", "s7"], ["s0", "s1"]]


def test_failures_and_whole_groups_are_scored_anew(tmp_path: Path) -> None:
    failing = RewardComponent(use="tests.rewards.plugins:Misbehave", options={"how": "throw", "once": None})
    with RewardPool(
        {"f": failing, "w": RewardComponent(use=f"{PLUGINS}:WholeGroups")}, RewardPoolConfig(cache=str(tmp_path))
    ) as pool:
        for group in (2, 3):
            found = pool.score(samples(6, group=group))
            assert all(score.failed for score in found["f"])
            assert values(found["w"]) == [float(group)] * 6


def test_the_version_follows_the_code_that_options_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "named_here.py"
    file.write_text("def score(prompts, **given):\n    return [0.5 for _ in prompts]\n")
    reward, folder = RewardComponent(use="trl", options={"function": "named_here:score"}), str(tmp_path / "cache")
    with RewardPool({"v": reward}, RewardPoolConfig(cache=folder)) as pool:
        assert values(pool.score(samples(2))["v"]) == [0.5, 0.5]
    file.write_text("def score(prompts, **given):\n    return [0.75 for _ in prompts]\n")
    with RewardPool({"v": reward}, RewardPoolConfig(cache=folder)) as pool:
        assert values(pool.score(samples(2))["v"]) == [0.75, 0.75]
    assert list(_named({"a": ["x", {"b": "m.n:f"}], "c": 1, "d": "http://h:80", "e": ("p:q",)})) == ["m.n:f", "p:q"]


def test_a_reference_file_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "reference.png"
    found = [content_hash(sample(reference=str(file)))]
    for content in (b"one", b"other", b"other size"):
        file.write_bytes(content)
        os.utime(file, ns=(0, len(found)))
        found.append(content_hash(sample(reference=str(file))))
    assert len(set(found)) == 4


def test_a_prompt_is_found_again_on_another_line_and_its_pictures_count_by_their_pixels(tmp_path: Path) -> None:
    rows = [{"prompt": "a red circle", "tag": "colors"}, {"prompt": "another"}]
    found = []
    for order in (rows, rows[::-1]):
        (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, order)))
        (prompt,) = (one for one in jsonl(path=str(tmp_path / "p.jsonl")) if one.text == "a red circle")
        found.append((prompt.source, content_hash(replace(sample(), prompt=prompt))))
    assert found[0][0] != found[1][0] and found[0][1] == found[1][1] == content_hash(sample(tag="colors"))

    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for name in ("a.png", "copy.bmp"):
        Image.fromarray(pixels).save(tmp_path / name)
    sources = [tmp_path / "a.png", tmp_path / "copy.bmp", pixels, pixels + 1, pixels.reshape(4, 2, 3)]
    given = [replace(sample(), prompt=Prompt("p", "a red circle", pictures=(Picture(one),))) for one in sources]
    hashes = [content_hash(one) for one in given]
    assert len(set(hashes[:3])) == 1 and len({*hashes, content_hash(sample())}) == 4


def test_the_version_is_declared_or_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reward_version(f"{PLUGINS}:Versioned", {}) == "declared 1"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "versioned_here.py").write_text("def reward(samples):\n    return [0.5 for _ in samples]\n")
    reward, folder = RewardComponent(use="versioned_here:reward"), str(tmp_path / "cache")
    with RewardPool({"v": reward}, RewardPoolConfig(cache=folder)) as pool:
        assert values(pool.score(samples(2))["v"]) == [0.5, 0.5]
    (tmp_path / "versioned_here.py").write_text("def reward(samples):\n    return [0.75 for _ in samples]\n")
    with RewardPool({"v": reward}, RewardPoolConfig(cache=folder)) as pool:
        assert values(pool.score(samples(2))["v"]) == [0.75, 0.75]
