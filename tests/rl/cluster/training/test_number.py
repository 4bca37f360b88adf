"""One rank and two at each ZeRO stage, as actors on Ray: the same lessons, the same numbers and weights to 1e-6."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from policy.folder import read_policy_config
from rl.cluster.places import WorkerNeeds
from rl.cluster.training.group import TrainerGroup
from rl.cluster.training.messages import TokenLesson, TrainerStart
from tests.rl.cluster.training.lessons import a_config, asked_first, lesson

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SAME = 1e-6
Weights = dict[str, np.ndarray[Any, Any]]
# Far above the gradients, so that a step goes by what they are. Adam's own divides each by its size, and makes as much
# of one that is nothing but the rounding of a sum as of any other.
BY_GRADIENT = {"eps": 1.0, "lr": 1.0}


class Trainers:
    """Ranks that are there, and what they have learnt."""

    def __init__(self, group: TrainerGroup, policy: Path, folder: Path) -> None:
        self.group, self._policy, self._folder = group, policy, folder

    def learn(self, lessons: list[TokenLesson]) -> list[dict[str, float]]:
        return [dict(self.group.ask("learn", one).metrics) for one in lessons]

    def weights(self) -> Weights:
        self._folder.mkdir(exist_ok=True)
        self.group.ask("export", "tiny", str(self._folder))
        return load_file(self._folder / "policy" / "ar" / "model.safetensors")

    def save(self, name: str) -> str:
        folder = self._folder.parent / name
        folder.mkdir()
        self.group.ask("save", str(folder))
        return str(folder)


@contextmanager
def one_and_two(stage: int, policy: Path, folder: Path, **train: object) -> Iterator[list[Trainers]]:
    """They load side by side."""
    configs = [a_config(policy, folder / str(size), zero_stage=stage, **train) for size in (1, 2)]
    groups = [TrainerGroup(size, WorkerNeeds(1, 0, 1), configs[0].cluster) for size in (1, 2)]

    def load(index: int) -> Trainers:
        groups[index].meet()
        groups[index].join(TrainerStart(configs[index], str(folder), f"{folder.name}-{index}", 1 << 26))
        return Trainers(groups[index], policy, folder / str(index))

    try:
        with ThreadPoolExecutor(2) as side_by_side:
            yield list(side_by_side.map(load, range(2)))
    finally:
        for group in groups:
            group.close()


def apart(found: Weights, expected: Weights, base: Weights) -> tuple[float, float]:
    """The most that a weight differs by; and the norm of all differences, of that by which they have moved."""
    differ = {name: found[name].astype(np.float64) - value for name, value in expected.items()}
    moved = {name: value.astype(np.float64) - base[name] for name, value in expected.items()}
    sums = [math.sqrt(sum(float((one**2).sum()) for one in of.values())) for of in (differ, moved)]
    return max(float(np.abs(one).max()) for one in differ.values()), sums[0] / sums[1]


def assert_same(found: dict[str, float], expected: dict[str, float]) -> None:
    """``mismatch_max`` alone is the worst of hundreds of differences between log-probs of some 5 nats, whose last digit
    is 5e-7."""
    worst = "mismatch_max"
    assert found.pop(worst) == pytest.approx(expected[worst], abs=5 * SAME)
    assert found == pytest.approx({name: one for name, one in expected.items() if name != worst}, rel=SAME, abs=SAME)


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize(
    ("stage", "train", "bound"),
    [*((stage, BY_GRADIENT, SAME) for stage in (0, 1, 2, 3)), (2, {}, 2e-5)],
    ids=["zero0", "zero1", "zero2", "zero3", "zero2-adams-own-eps"],
)
def test_one_rank_and_two_are_the_same_and_go_on_from_each_other(
    stage: int, train: dict[str, float], bound: float, tiny_policy: Path, tmp_path: Path
) -> None:
    """Eight rows in micro-batches of 3 + 3 + 2, or 3 + 1 on each of two; then 2 ranks, 1 and 2 take a step each."""
    base = load_file(tiny_policy / "ar" / "model.safetensors")
    with one_and_two(stage, tiny_policy, tmp_path, **train) as (one, two):
        layout = read_policy_config(tiny_policy)[0]
        lessons = [asked_first(one.group, lesson(layout, step)) for step in range(3)]
        alone, expected = one.learn(lessons), one.weights()
        together = two.learn(lessons[:1])
        after_two = two.save("after two")
        together += two.learn(lessons[1:])
        most, share = apart(two.weights(), expected, base)
        worst = max(abs(row[name] - of[name]) for row, of in zip(together, alone, strict=True) for name in of)
        print(f"stage {stage}: metrics differ by {worst:.1e}, weights by {most:.1e}, {share:.1e} of what they moved")
        for found, of in zip(together, alone, strict=True):
            assert_same(found, of)
        assert max(most, share) < bound
        one.group.ask("load", after_two)
        one.learn(lessons[1:2])
        two.group.ask("load", one.save("after one"))
        assert_same(two.learn(lessons[2:])[0], alone[2])
        most, share = apart(two.weights(), expected, base)
        assert max(most, share) < bound
