"""Scoring while painting gives what scoring afterwards gives, in whole groups."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.streaming import ScoringPainter
from rl.types import Prompt, Rollout, Sample
from rollout.render import render

PLUGINS = "tests.rewards.pool_plugins"


class SeedPainter:
    """A picture is the low byte of its seed; ``finished`` holds the time of each batch."""

    def __init__(self) -> None:
        self.finished: list[float] = []

    def paint(self, hidden_BSD: Tensor, seeds: Sequence[int], *, steps: int, guidance: float) -> NDArray[np.uint8]:
        time.sleep(0.5)
        self.finished.append(time.time())
        return np.stack([np.full((4, 4, 3), seed % 256, np.uint8) for seed in seeds])


def a_rollout(prompts: int, group_size: int) -> Rollout:
    batch = prompts * group_size
    return Rollout(
        prompts=tuple(Prompt(f"p{i}", "x") for i in range(prompts)),
        group_size=group_size,
        prompt_ids=((1,),) * prompts,
        tokens_BT=np.zeros((batch, 2), np.int64),
        logprobs_BT=np.zeros((batch, 2), np.float32),
        seeds=tuple(range(batch)),
        temperature=1.0,
        version=0,
    )


@pytest.mark.parametrize("renders", [1, 2])
def test_groups_are_scored_while_the_next_pictures_are_painted(renders: int, tmp_path: Path) -> None:
    log, rollout = tmp_path / "calls", a_rollout(prompts=4, group_size=3)
    reward = RewardComponent(use=f"{PLUGINS}:calls", options={"log": str(log)})
    with RewardPool({"c": reward}) as pool:
        painter = SeedPainter()
        scoring = ScoringPainter(painter, pool, rollout, renders, "step7")
        hidden_BSD, most = torch.zeros(12, 3, 2), 5 * renders
        pictures = render(scoring, hidden_BSD, rollout, steps=1, seed_mode="sample", renders=renders, micro_batch=most)
        first_scored = [json.loads(line)[1] for line in log.read_text().splitlines()]
        found = scoring.scores()["c"]
        calls = [json.loads(line)[1] for line in log.read_text().splitlines()]
        afterwards = pool.score(
            [
                Sample(f"step7-{i}", f"p{i // (3 * renders)}", rollout.prompts[i // (3 * renders)], picture)
                for i, picture in enumerate(pictures)
            ]
        )["c"]
    assert len(painter.finished) == 3
    assert found == afterwards
    assert [score.value for score in found] == [float(picture[0, 0, 0]) / 255 for picture in pictures]
    # 5, 10 and 12 sequences were done: one, three and four whole groups
    ids = [f"step7-{i}" for i in range(12 * renders)]
    cuts = [0, 3 * renders, 9 * renders, 12 * renders]
    assert calls == [ids[a:b] for a, b in pairwise(cuts)]
    assert first_scored[:1] == calls[:1]  # before the last pictures were painted
