"""A whole run as a subprocess: the tiny random policy, a reward that needs no model, a few steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rewards.golden import Golden
from rl.types import Prompt, Sample

ROOT = Path(__file__).parents[2]
STEPS = 6


def ink(samples: Sequence[Sample]) -> list[float]:
    """A reward that always differs inside a group: mean darkness."""
    return [1.0 - float(sample.picture.mean()) / 255.0 for sample in samples]


def green(samples: Sequence[Sample]) -> list[float]:
    return [float(sample.picture[..., 1].mean()) for sample in samples]


def dead(samples: Sequence[Sample]) -> list[float]:
    return [0.0 for _ in samples]


def golden() -> list[Golden]:
    picture = np.zeros((8, 8, 3), np.uint8)
    return [Golden(Sample("black", "golden", Prompt("golden", "ink"), picture), at_least=0.9)]


ink.golden = dead.golden = golden  # type: ignore[attr-defined]


def constant(samples: Sequence[Sample]) -> list[float]:
    """Without reference pictures nothing shows at loading that it is dead."""
    return [0.25 for _ in samples]


def late(samples: Sequence[Sample]) -> list[float]:
    """Fails on every second sample from the third call on: after the rehearsal and the first step."""
    calls["n"] += 1
    return [float("nan") if calls["n"] > 2 and index % 2 else 0.5 for index in range(len(samples))]


def lost_in_the_flow(velocity: object, noise: object, scheduler: object, steps: int) -> None:
    """A decoder sampler that raises."""
    raise IndexError("no way through the flow")


calls = {"n": 0}


def every_second(samples: Sequence[Sample]) -> list[float]:
    """Fails on every second sample."""
    return [float("nan") if index % 2 else 0.5 for index in range(len(samples))]


def write_config(folder: Path, policy: Path, reward: str = "tests.rl.run_case:ink", **changes: Any) -> Path:
    """A config file for a run of seconds; ``changes`` replace top-level sections."""
    content: dict[str, Any] = {
        "policy": {"path": str(policy)},
        "data": {
            "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4}},
            "eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 2}},
            "prompts_per_step": 3,
        },
        "rollout": {"engine": "torch", "group_size": 4},
        "render": {"steps": 2},
        "rewards": {"ink": {"use": reward}},
        "train": {"steps": STEPS, "lr": 1e-3, "warmup_steps": 2, "schedule": "cosine", "micro_batch": 5},
        "eval": {"every": 3, "grid": 4},
        "checkpoint": {"every": 2},
        "tracking": {"console": "plain", "to": [], "pictures_every": 0},
        "run": {"folder": str(folder / "run")},
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps({**content, **changes}))  # JSON is YAML
    return path


def launch(*arguments: str | Path, program: Sequence[str] = ("-m", "rl.launch")) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, program=program), cwd=ROOT, env=environment(), capture_output=True, text=True
    )


def command(*arguments: str | Path, program: Sequence[str] = ("-m", "rl.launch")) -> list[str]:
    return [sys.executable, *program, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def metrics(run: Path) -> list[tuple[int, dict[str, float]]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["metrics"]) for row in map(json.loads, lines)]
