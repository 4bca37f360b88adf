from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch

from rl.tracking.profile import StepProfile


def test_chosen_steps_are_traced_and_no_others(tmp_path: Path) -> None:
    told: list[str] = []
    with StepProfile([2], tmp_path, told.append) as profile:
        profile.reach(0)
        for step in range(3):
            torch.ones(step + 3) * 2
            profile.reach(step + 1)
    [path] = (tmp_path / "profile").iterdir()
    assert path.name == "step-2.json.gz"
    with gzip.open(path, "rt") as file:
        calls = [event for event in json.load(file)["traceEvents"] if event.get("name") == "aten::mul"]
    assert [event["args"]["Input Dims"][0] for event in calls] == [[4]]  # of the second step alone
    assert told == [f"profile of step 2: {path}, to be opened in chrome://tracing or ui.perfetto.dev"]


def test_without_steps_nothing_is_written(tmp_path: Path) -> None:
    with StepProfile([], tmp_path, print) as profile:
        profile.reach(0)
        profile.reach(1)
    assert list(tmp_path.iterdir()) == []
