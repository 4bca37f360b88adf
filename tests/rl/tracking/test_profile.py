from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch

from rl.tracking.profile import profiled
from rl.tracking.stopwatch import Stopwatch


def test_chosen_steps_are_traced_and_no_others(tmp_path: Path) -> None:
    told: list[str] = []
    for step in profiled(iter(range(4, 7)), 4, [6, 8], tmp_path, told.append):
        torch.ones(step) * 2
    [path] = (tmp_path / "profile").iterdir()
    assert path.name == "step-6.json.gz"
    with gzip.open(path, "rt") as file:
        calls = [event for event in json.load(file)["traceEvents"] if event.get("name") == "aten::mul"]
    assert [event["args"]["Input Dims"][0] for event in calls] == [[5]]  # of the sixth step alone, which is number 5
    assert told == [f"profile of step 6: {path}, to be opened in chrome://tracing or ui.perfetto.dev"]


def test_without_steps_nothing_stands_in_between(tmp_path: Path) -> None:
    collected = iter(range(3))
    assert profiled(collected, 0, [], tmp_path, print) is collected


def test_stages_are_ranges_of_the_trace(tmp_path: Path) -> None:
    for _ in profiled(iter([0]), 0, [1], tmp_path, lambda _: None):
        with (timer := Stopwatch())("paint"):
            torch.ones(2) * 2
    with gzip.open(tmp_path / "profile" / "step-1.json.gz", "rt") as file:
        events = {event["name"]: event for event in json.load(file)["traceEvents"] if "dur" in event}
    paint, call = events["paint"], events["aten::mul"]
    assert paint["ts"] <= call["ts"] <= call["ts"] + call["dur"] <= paint["ts"] + paint["dur"]
    assert list(timer.seconds) == ["paint"]
