"""A run folder as a finished run leaves it, made without any model: for the tests of report and sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rl.config.schema import TrackingConfig
from rl.config.sections.milestones import EvalConfig
from rl.evaluation.evaluate import evaluate
from rl.run_folder.environment import record_environment
from rl.run_folder.records import Alarm
from rl.tracking.groups import GroupSample, save_groups
from rl.tracking.tracker import Tracker
from rl.types import Prompt, Score

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
_BASE = {"single_object": 0.8, "two_object": 0.5, "counting": 0.35, "colors": 0.6, "position": 0.3, "color_attr": 0.4}


def prompts(per_task: int) -> list[Prompt]:
    return [
        Prompt(f"{task}-{i}", f"a picture of {task.replace('_', ' ')} no. {i} <b>&", {"tag": task})
        for task in TASKS
        for i in range(per_task)
    ]


class Pipeline:
    """Passes a share of prompts that grows with ``progress`` (0-1); paints a disc, green where it passes."""

    def __init__(self, progress: float, seed: int, reward: str = "geneval") -> None:
        self.progress, self.seed, self.reward = progress, seed, reward

    def __call__(
        self, batch: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
        scores, pictures = [], []
        for prompt, seed in zip(batch, seeds, strict=True):
            luck = np.random.default_rng(seed + 1000 * self.seed).random()
            share = _BASE[str(prompt.metadata["tag"])]
            passed = bool(luck < share + (0.95 - share) * self.progress)
            details = {"strict": passed, "graded": 0.5, "reason": "" if passed else "expected <disc>=1, found 0"}
            scores.append(Score(float(passed), details=details, passed=passed))
            pictures.append(disc("green" if passed else "purple", seed))
        if self.progress == 0:
            scores[3] = Score(None, failure="timed out after 60 s")
        return np.stack(pictures), {self.reward: scores}


def disc(color: str, seed: int) -> NDArray[np.uint8]:
    picture = Image.new("RGB", (64, 64), "#f4f1ea")
    x, y = 16 * (seed % 3), 16 * (seed // 3 % 3)
    ImageDraw.Draw(picture).ellipse((x + 2, y + 2, x + 18, y + 18), fill=color)
    return np.asarray(picture)


def groups(step: int) -> list[GroupSample]:
    """Two groups of four: one in which the second fails in the reward, one that scores alike."""
    found = []
    for prompt in ("first prompt", "second <prompt>"):
        for place in range(4):
            score = 0.25 * place if prompt == "first prompt" else 1.0
            failed = prompt == "first prompt" and place == 1
            said = {"value": None if failed else score, "passed": None if failed else float(score == 1.0)}
            said |= {"failure": "timed out" if failed else None, "details": {"reason": f"disc {step}"}}
            advantage = None if failed else score - 0.5 if prompt == "first prompt" else 0.0
            found.append(GroupSample(prompt, "colors", None if failed else score, advantage, {"geneval": said}))
    return found


def write_run(folder: Path, *, seed: int = 0, steps: int = 60, per_task: int = 20, gain: float = 0.8) -> Path:
    noise = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    record_environment(folder, ["python", "-m", "rl.launch", "examples/geneval.yaml"])
    (folder / "config.yaml").write_text(f"run:\n  seed: {seed}\n  folder: null # <not html>\n")
    every = max(1, steps // 3)
    with Tracker(folder, TrackingConfig(console="off", to=()), steps) as tracker:
        for step in range(steps + 1):
            if step % every == 0:
                pipeline = Pipeline(gain * (step / steps) ** 0.6, seed)
                evaluate(
                    step, prompts(per_task), pipeline, folder, EvalConfig(seed=seed, grid=12), prompts_per_batch=50
                )
            if step == steps:
                break
            score = 0.5 + 0.4 * (step / steps) ** 0.6 + 0.04 * float(noise.standard_normal())
            metrics = {
                "score": score,
                "reward/geneval": score,
                "kl": 1e-4 * step,
                "entropy": 2.2 - 0.01 * step + 0.03 * float(noise.standard_normal()),
                "mismatch": 3e-6 * (1 + float(noise.random())),
                "loss": -0.01 * float(noise.random()),
                "zero_std_fraction": 0.25,
                "guard/darkness": 0.08 + 0.005 * step,
                "guard/diversity": 0.2,
                "images": 128.0,
            }
            seconds = {
                "sample": 1.1,
                "forward": 0.3,
                "render": 0.9,
                "score": 0.4,
                "update": 1.5,
                "sync": 0.1,
                "total": 4.4,
            }
            alarm = Alarm("guard/darkness", step, 0.08, 0.35, "darkness rose from 0.08 to 0.35 by step 50")
            tracker.log(step, metrics, seconds, [alarm] if step == 50 else [])
            if step % every == 0:
                save_groups(folder, step, np.stack([disc("green", place) for place in range(8)]), groups(step), 4)
    return folder
