"""Runs whose reward is at odds with what they are for are caught while the held-out score still stands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rewards.library.geneval.detectors.shapes import ShapesDetector
from rl.evaluation.results import load_all
from rl.run_folder.records import read_metrics
from rl.types import Sample

ROOT = Path(__file__).parents[3]
_DETECTOR: list[ShapesDetector] = []


def many(samples: Sequence[Sample]) -> list[float | None]:
    """The more objects, the better, whatever the prompt asks for."""
    if not _DETECTOR:
        _DETECTOR.append(ShapesDetector())
    return [len(found) / 16 for found in _DETECTOR[0].detect([sample.picture for sample in samples])]


def dark(samples: Sequence[Sample]) -> list[float | None]:
    return [1 - float(sample.picture.mean()) / 255 for sample in samples]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hack", "rate", "warmup", "grading", "most"),
    [
        ("many", "5e-5", "3", "strict", 0.05),
        ("dark", "1e-4", "3", "strict", 0.05),
        # at the recipe's own rate all of the score is lost in five updates; what is darker is at first also better
        ("many", "2e-3", "10", "graded", 0.05),
        ("dark", "2e-3", "10", "graded", 0.12),
    ],
)
def test_a_hacked_run_is_stopped_before_the_held_out_score_has_fallen(
    hack: str, rate: str, warmup: str, grading: str, most: float, tmp_path: Path
) -> None:
    """The monitor's disagreement is the first to see it: pictures are as dark and as full as ever by then."""
    settings = {
        "rewards.hack.use": f"tests.rl.tracking.test_hacked:{hack}",
        "rewards.geneval.role": "monitor",
        "rewards.geneval.options.grading": grading,  # what is evaluated is pass or fail in both
        "guards.actions": "{disagreement: stop}",
        "train.steps": "40",
        "train.lr": rate,
        "train.warmup_steps": warmup,
        "train.schedule": "constant",
        "data.eval.options.per_task": "50",
        "eval.every": "1",
        "eval.grid": "0",
        "checkpoint.every": "0",
        "tracking.console": "plain",
        "run.folder": str(tmp_path / "run"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "rl.launch", "examples/geneval.yaml", *(f"{k}={v}" for k, v in settings.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "guards.actions.disagreement is 'stop' and an alarm went off: inside groups, what is rewarded" in done.stderr
    before, *_, last = load_all(tmp_path / "run")
    fell = before.flat()["eval/geneval/overall"] - last.flat()["eval/geneval/overall"]
    rows = read_metrics(tmp_path / "run")
    assert len(rows) < 40 and last.step == len(rows)
    assert fell < most
    pictures = [alarm.metric for row in rows for alarm in row.alarms if alarm.metric.startswith("guard/")]
    assert pictures == []
