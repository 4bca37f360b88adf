"""Small pictures of different kinds for trying out a reward, and prompts to go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rl.data.tasks import task_of
from rl.types import Prompt, Sample, WrittenAnswer

GROUPS, MEMBERS = 4, 4
_SIDE = 64
_PROMPTS = tuple(
    Prompt(f"trial-{number}", text, {"tag": tag, "text": word, "include": [{"class": name, "count": 1}]})
    for number, (text, tag, word, name) in enumerate(
        [
            ("a photo of a circle", "single_object", "HELLO", "circle"),
            ("a photo of a cat", "single_object", "OPEN", "cat"),
            ('a sign that says "EXIT"', "ocr", "EXIT", "stop sign"),
            ("a green star", "colors", "STAR", "star"),
        ]
    )
)


def trial_samples(prompts: Sequence[Prompt] | None = None) -> list[Sample]:
    """Four groups of four (64, 64, 3) pictures: noise, gradients, stripes and a disc in different colours."""
    rng = np.random.default_rng(0)
    chosen = list(prompts or _PROMPTS)[:GROUPS]
    return [
        Sample(f"trial-{group}-{member}", prompt.id, prompt, _picture(member, rng), _answer(prompt, member))
        for group, prompt in enumerate(chosen)
        for member in range(MEMBERS)
    ]


def resized(samples: Sequence[Sample], height: int, width: int) -> list[Sample]:
    """The same samples with their pictures repeated or cut to another size."""
    return [replace(one, picture=np.ascontiguousarray(np.resize(one.picture, (height, width, 3)))) for one in samples]


def _answer(prompt: Prompt, kind: int) -> WrittenAnswer | None:
    """Words, if it is a question: two that may be right, none at all, and some that were cut off."""
    if task_of(prompt) != "answer":
        return None
    return (WrittenAnswer("yes"), WrittenAnswer("two"), WrittenAnswer(""), WrittenAnswer("red or", complete=False))[
        kind
    ]


def _picture(kind: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    color = rng.integers(256, size=3)
    y, x = np.mgrid[:_SIDE, :_SIDE]
    if kind == 0:
        return rng.integers(256, size=(_SIDE, _SIDE, 3), dtype=np.uint8)
    weight = {1: x / _SIDE, 2: (x // 8) % 2, 3: (y - 32) ** 2 + (x - 32) ** 2 < 400}[kind]
    return (weight[..., None] * color + (1 - weight[..., None] * 1.0) * 235).astype(np.uint8)
