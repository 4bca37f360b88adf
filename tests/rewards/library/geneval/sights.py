"""What a detector may have seen, and prompts that ask for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from rewards.library.geneval.contract import Detection
from rl.types import Prompt, Sample

Box = tuple[float, float, float, float]


def see(label: str, color: str | None = "red", box: Box = (0, 0, 10, 10), score: float = 0.99) -> Detection:
    return Detection(label, score, box, color=color)


COUNTING = {"tag": "counting", "include": [{"class": "star", "count": 2}], "exclude": [{"class": "star", "count": 3}]}
COLOR = {"tag": "colors", "include": [{"class": "star", "count": 1, "color": "red"}]}
LEFT = {
    "tag": "position",
    "include": [{"class": "star", "count": 1}, {"class": "ring", "count": 1, "position": ["left of", 0]}],
}
ATTRIBUTES = {
    "tag": "color_attr",
    "include": [{"class": "star", "count": 1, "color": "red"}, {"class": "ring", "count": 1, "color": "blue"}],
}


def sample(metadata: dict[str, Any]) -> Sample:
    return Sample("s", "g", Prompt("p", "a star", metadata), np.zeros((8, 8, 3), np.uint8))
