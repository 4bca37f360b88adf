"""What a turn whose painters are elsewhere asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rl.acting.elsewhere import PaintedElsewhere
from rl.cluster.jobs import PaintJob
from rl.cluster.training.painters import CrewPainters
from rl.collect import Noise
from rl.config.load import load
from rl.types import Prompt, Rollout
from tests.rl.run_case import ROOT

CONFIG = load(ROOT / "examples/geneval.yaml", ["train.micro_batch=2", "render.micro_batch=2", "rollout.group_size=2"])


class RecordingCrew:
    """A picture's number is its place in the whole rollout."""

    size = 1

    def __init__(self) -> None:
        self.asked: list[PaintJob] = []

    def ask(self, version: int | None, job: PaintJob, *, returns: int) -> list[Any]:
        self.asked.append(job)
        rows = len(job.rollout.rollout().seeds) * (job.renders or 1)
        return [None, np.full((rows, 2, 2, 3), len(self.asked), np.uint8)][:returns]


def turn(crew: RecordingCrew) -> PaintedElsewhere:
    act = object.__new__(PaintedElsewhere)
    act.painters = CrewPainters(crew, SimpleNamespace(latest=3), CONFIG)  # type: ignore[arg-type]
    act.render, act.rewards = CONFIG.render, SimpleNamespace(submit=lambda samples: samples)  # type: ignore[assignment]
    act.progress = lambda *told: None
    return act


def a_rollout() -> Rollout:
    tokens: NDArray[np.int64] = np.zeros((4, 3), np.int64)
    prompts = (Prompt("one", "a"), Prompt("two", "b"))
    return Rollout(prompts, 2, ((1,), (1,)), tokens, np.zeros((4, 3), np.float32), (1, 2, 3, 4), 1.0, 0)


def names(submissions: list[Any]) -> Iterator[tuple[str, str]]:
    for samples in submissions:
        yield from ((one.id, one.prompt.id) for one in samples)


@pytest.mark.parametrize(("steps", "renders"), [(None, None), (8, 3)])
def test_painters_are_told_how_many_steps_and_renders(steps: int | None, renders: int | None) -> None:
    crew, noise = RecordingCrew(), Noise("sample", 7, 0)
    found, submissions = turn(crew).paint(
        torch.empty(0), a_rollout(), noise, "shown", learnt_from=False, steps=steps, renders=renders
    )
    count = renders or 1
    assert [(job.steps, job.renders, job.shown) for job in crew.asked] == [(steps, renders, noise)] * 2
    assert (len(found.pictures), len(found.seeds), found.per_sample) == (4 * count, 4 * count, count)
    told = list(names(submissions))  # type: ignore[arg-type]
    assert told == [(f"shown-{index}", "one" if index < 2 * count else "two") for index in range(4 * count)]
