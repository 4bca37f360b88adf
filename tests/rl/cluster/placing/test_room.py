"""Who finds a place: the arrangement with the fewest left over, against all arrangements there are."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from rl.cluster.room import Kind, Machine, left_over


def kinds(*needs: tuple[int, float, float]) -> list[Kind]:
    return [Kind(f"kind {place}", *need) for place, need in enumerate(needs)]


@pytest.mark.parametrize(
    ("needs", "machines", "left"),
    [
        ([(2, 1, 2), (2, 1, 1)], [(8, 3), (8, 3)], (0, 0)),
        ([(2, 1, 1), (2, 1, 2)], [(8, 3), (8, 3)], (0, 0)),  # whoever is named first
        ([(1, 1, 2), (2, 1, 2)], [(8, 3), (8, 3)], (0, 1)),
        ([(3, 1, 0.6)], [(8, 2)], (1,)),  # two of them don't share one GPU
        ([(4, 1, 0.5)], [(8, 2)], (0,)),
        ([(2, 1, 0.5), (1, 1, 1)], [(8, 2)], (0, 0)),
        ([(3, 1, 0.5), (1, 1, 1)], [(8, 2)], (0, 1)),  # one has to go, and either would do
        ([(5, 0, 0)], [(0, 0)], (0,)),
        ([(2, 1, 1), (1, 6, 0), (1, 1, 1)], [(6, 0), (4, 3)], (0, 0, 0)),
        ([(2, 1, 1), (2, 6, 0), (1, 1, 1)], [(6, 0), (4, 3)], (0, 1, 0)),
        ([(2, 2, 3), (2, 2, 2)], [(4, 5), (4, 5)], (0, 0)),
        ([(1, 1, 1)], [], (1,)),
    ],
)
def test_who_is_left_over(
    needs: list[tuple[int, float, float]], machines: list[tuple[float, float]], left: tuple[int, ...]
) -> None:
    found = left_over(kinds(*needs), [Machine(*one) for one in machines])
    assert sum(found) == sum(left)
    if left != (0, 1):
        assert found == left


def test_nobody_is_said_to_lack_a_place_who_has_one() -> None:
    rng = np.random.default_rng(0)
    fitted = 0
    for _ in range(300):
        asked = kinds(*[(int(rng.integers(1, 3)), float(rng.integers(0, 4)), float(rng.integers(0, 4))) for _ in "ab"])
        machines = [Machine(float(rng.integers(1, 8)), float(rng.integers(0, 5))) for _ in range(3)]
        found = left_over(asked, machines)
        assert sum(found) == _fewest_left(asked, machines)
        fitted += not any(found)
    assert 50 < fitted < 250  # both answers are tried


def test_hundreds_of_workers_are_counted_in_a_moment() -> None:
    started = time.process_time()
    machines = [Machine(96, 8)] * 64
    assert left_over(kinds((64, 1, 4), (200, 1, 1), (8, 1, 7)), machines) == (0, 0, 0)
    assert sum(left_over(kinds((100, 1, 3), (60, 1, 4), (12, 1, 5)), machines)) > 0
    assert time.process_time() - started < 10


def _fewest_left(asked: list[Kind], machines: list[Machine]) -> int:
    """Each worker on each machine, or on none."""
    workers = [kind for kind in asked for _ in range(kind.count)]
    best = len(workers)
    for places in product(range(-1, len(machines)), repeat=len(workers)):
        on = [[worker for worker, place in zip(workers, places, strict=True) if place == at] for at in range(3)]
        if all(
            sum(one.cpus for one in here) <= machine.cpus and sum(one.gpus for one in here) <= machine.gpus
            for machine, here in zip(machines, on, strict=True)
        ):
            best = min(best, places.count(-1))
    return best
