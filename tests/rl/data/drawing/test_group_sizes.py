"""How a step's samples are shared out among its prompts."""

from __future__ import annotations

from itertools import product

import pytest

from rl.data.drawing.group_sizes import knapsack, neyman


def value(success: tuple[float, ...], sizes: tuple[int, ...], unit: int) -> float:
    pairs = list(zip(success, sizes, strict=True))
    return sum((1 - p ** (n * unit) - (1 - p) ** (n * unit)) * p * (1 - p) ** 2 for p, n in pairs)


def test_knapsack_gives_the_hard_prompt_more() -> None:
    assert knapsack([0.9, 0.3], 4, 4) == [1, 3]
    assert knapsack([0.5, 0.5, 0.5], 6, 4) == [2, 2, 2]
    assert knapsack([0.5], 3, 2) == [3]


@pytest.mark.parametrize("success", [(0.1, 0.5, 0.8), (0.02, 0.35, 0.97), (0.5, 0.5, 0.1)])
def test_knapsack_finds_the_best_of_all_ways_to_share(success: tuple[float, ...]) -> None:
    ways = [sizes for sizes in product(range(1, 8), repeat=3) if sum(sizes) == 9]
    best = max(value(success, sizes, 2) for sizes in ways)
    assert value(success, tuple(knapsack(success, 9, 2)), 2) == pytest.approx(best)


def test_certain_prompts_get_one_unit_where_others_are_open() -> None:
    assert knapsack([1.0, 0.4, 0.0], 9, 4)[0] == 1
    assert sum(knapsack([1.0, 1.0, 0.0], 9, 4)) == 9


def test_neyman_follows_the_standard_deviation() -> None:
    # sqrt(.25) : sqrt(.09 * .01 ...) -> .5 and .1, so 10 of 12 units
    assert neyman([0.5, 0.01020514433643803], 12, 4, floor=1e-9) == [10, 2]
    assert neyman([0.0, 1.0], 6, 4) == [3, 3]
