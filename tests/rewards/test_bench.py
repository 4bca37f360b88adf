"""The commands that measure, on few pictures; the figures themselves are for a free machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewards import bench
from rl.config.schema import RewardComponent
from rl.types import UserError


def test_it_measures_and_writes_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "bench.json"
    given = ["--reward", 'rewards.bench:costs={"ms": 1}', "--reward", "geneval", "--pictures", "16", "--repeats", "1"]
    assert bench.main([*given, "--json", str(target)]) == 0
    shown, figures = capsys.readouterr().out, json.loads(target.read_text())
    assert "pictures per second" in shown and "cost of the pool" in shown
    assert [row["reward"] for row in figures["rates"]] == ['rewards.bench:costs={"ms": 1}', "geneval"]
    sleeper = figures["rates"][0]
    assert 0 < sleeper["alone"] <= 1000  # 1 ms each
    assert 0 < sleeper["pool"]["1"] <= 1000
    assert 0 < sleeper["pool"]["2"] <= 2000
    assert [row["size"] for row in figures["overheads"]] == [64, 512, 1024]
    for row in figures["overheads"]:
        assert row["plain_s"] >= 16 * 0.005 and row["pool_s"] >= 16 * 0.005
        assert row["share"] == pytest.approx(row["pool_s"] / row["plain_s"] - 1)


@pytest.mark.slow  # quick, but true on a free machine only
def test_two_workers_are_faster_than_one() -> None:
    found = bench.rate(
        "sleeper", RewardComponent(use=bench.SLEEPER, options={"ms": 20}), asked=bench.samples(32, 64), repeats=1
    )
    assert found.pool[2] > 1.3 * found.pool[1]  # 2 on a free machine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ocr={", "--reward 'ocr={': what follows '=' is not JSON ("),
        ("={}", "--reward '={}': no reward is named; write for example ocr={\"detect\": false}"),
        ("ocr=3", "--reward 'ocr=3': what follows '=' must be a JSON object of options"),
        ("geneva", "rewards.geneva.use: there is no 'geneva' among the rewards, did you mean 'geneval'?"),
        (
            'tests.rewards.plugins:Misbehave={"how": "short"}',
            "tests.rewards.plugins:Misbehave failed on 8 of 8 pictures: returned 7 values for 8 samples",
        ),
    ],
)
def test_mistakes_are_said_in_a_sentence(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--reward", text, "--pictures", "8"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1


def test_options_are_read_as_json() -> None:
    assert bench.parse_reward('ocr={"detect": false}') == ("ocr", RewardComponent(use="ocr", options={"detect": False}))
    with pytest.raises(UserError):
        bench.parse_reward("ocr=[1]")
