"""Questions to a judge, and the answers of a false one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rewards.library.vlm_judge.reward import VlmJudge
from rl.types import Prompt, Sample, Score
from tests.rewards.library.vlm_judge.vlm_server import Answer, FakeEndpoint, chat, picture_of

CRITERIA = {"objects": "all objects of the request are there", "colours": "they have the colours asked for"}


def sample(level: int = 128, name: str = "p0", text: str = "two red circles", **metadata: object) -> Sample:
    return Sample(f"s-{name}", "g", Prompt(name, text, metadata), np.full((8, 12, 3), level, np.uint8))


def yes(p: float = 0.9) -> Answer:
    return chat("Yes", [{"Yes": p, "No": 1 - p}])


def always(answer: Answer) -> FakeEndpoint:
    return FakeEndpoint(lambda number, body: answer)


def sequence(*answers: Answer) -> FakeEndpoint:
    return FakeEndpoint(lambda number, body: answers[min(number, len(answers)) - 1])


def by_level(number: int, body: Mapping[str, Any]) -> Answer:
    """P(yes) is the picture's brightness."""
    p = float(picture_of(body).mean()) / 256
    return chat("Yes", [{"Yes": p, "No": 1 - p}])


def one(judge: VlmJudge, asked: Sample | None = None) -> Score:
    (score,) = judge([asked or sample()])
    return score
