"""How rows are shared, and ranks that cannot meet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch

from rl.data.pictures import Picture
from rl.process.out_of_memory import OutOfMemory
from rl.process.ranks import Place
from rl.trainer import team as module
from rl.trainer.painting import TeamPainter, Unpainted
from rl.trainer.ranks import Share, shares
from rl.trainer.team import Team, meet
from rl.types import Rows, UserError


@dataclass(frozen=True)
class Numbers(Rows):
    values: tuple[int, ...]


@pytest.mark.parametrize(
    ("size", "world", "values", "real"),
    [
        (4, 1, [(0, 1, 2, 3)], [[True] * 4]),
        (5, 2, [(0, 1, 2), (3, 4, 4)], [[True] * 3, [True, True, False]]),
        (2, 3, [(0,), (1,), (1,)], [[True], [True], [False]]),
    ],
)
def test_every_rank_gets_equally_many_rows_and_none_counts_twice(
    size: int, world: int, values: list[tuple[int, ...]], real: list[list[bool]]
) -> None:
    parts = shares(Numbers(tuple(range(size))), world)
    assert [part.rows.values for part in parts] == values
    assert [list(part.real) for part in parts] == real


def test_a_share_is_cut_into_micro_batches() -> None:
    cut = list(Share(Numbers((7, 8, 8)), [True, True, False]).micro_batches(2))
    assert [(rows.values, list(real)) for rows, real in cut] == [((7, 8), [True, True]), ((8,), [False])]


def test_one_alone_paints_all_by_itself() -> None:
    class Painter:
        def paint(self, hidden_BSD: torch.Tensor, seeds: Any, *, steps: int, guidance: float) -> np.ndarray:
            assert (steps, guidance) == (3, 1.5)
            return np.array([int(hidden.sum()) + seed for hidden, seed in zip(hidden_BSD, seeds, strict=True)])

    pictures = TeamPainter(Painter(), Team(Place())).paint(torch.ones(3, 2, 2), [10, 20, 30], steps=3, guidance=1.5)
    assert pictures.tolist() == [14, 24, 34]


def test_another_rank_paints_where_its_decoder_works() -> None:
    class Painter:
        def paint(self, hidden_BSD: torch.Tensor, seeds: Any, *, steps: int, guidance: float) -> np.ndarray:
            said.append("paints")
            return np.zeros((len(seeds), 2, 2, 3), np.uint8)

    @contextmanager
    def visit() -> Iterator[None]:
        said.append("comes")
        yield
        said.append("leaves")

    class Second(Team):
        def receive(self) -> Any:
            return Share(Unpainted(torch.ones(3, 2, 2), [1, 2, 3]), [True, True, False])

        def bring(self, mine: Any) -> list[object]:
            said.append(f"{len(mine)} pictures")
            return []

    @contextmanager
    def base() -> Iterator[None]:
        said.append("is the base")
        yield
        said.append("is itself")

    said: list[str] = []
    paint = TeamPainter(Painter(), Second(Place()), visit, weights={"base": base}).duties()["paint"]
    paint("[3, 1.5, []]")
    assert said == ["comes", "paints", "leaves", "2 pictures"]
    said.clear()
    paint('[3, 1.5, ["base"]]')
    assert said == ["comes", "is the base", "paints", "is itself", "leaves", "2 pictures"]


def test_rank_0_tells_the_others_whose_weights_paint_and_takes_them_after_that() -> None:
    class Painter:
        def paint(self, hidden_BSD: torch.Tensor, seeds: Any, *, steps: int, guidance: float) -> np.ndarray:
            said.append("paints")
            return np.zeros((len(seeds), 2, 2, 3), np.uint8)

    class First(Team):
        def order(self, what: str, argument: str = "") -> None:
            said.append(f"{what} {argument}")

    @contextmanager
    def base() -> Iterator[None]:
        said.append("is the base")
        yield
        said.append("is itself")

    @contextmanager
    def shown() -> Iterator[None]:
        said.append("is shown")
        yield
        said.append("is over")

    said: list[str] = []
    painter = TeamPainter(Painter(), First(Place()), weights={"base": base, "shown": shown})
    with painter.lent("base"):
        assert said == []  # taking cut weights is something that all ranks do together
        painter.paint(torch.ones(1, 2, 2), [1], steps=3, guidance=1.5)
    painter.paint(torch.ones(1, 2, 2), [1], steps=3, guidance=1.5)
    assert said == ['paint [3, 1.5, ["base"]]', "is the base", "paints", "is itself", "paint [3, 1.5, []]", "paints"]
    said.clear()
    with painter.lent("shown"), painter.lent("base"):
        painter.paint(torch.ones(1, 2, 2), [1], steps=3, guidance=1.5)
    assert said == ['paint [3, 1.5, ["shown", "base"]]', "is shown", "is the base", "paints", "is itself", "is over"]


def test_another_rank_without_memory_says_in_which_phase() -> None:
    class Second(Team):
        def _orders_of_first(self) -> Iterator[tuple[str, str]]:
            yield "paint", ""

    def paint(how: str) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(OutOfMemory, match="out of memory in 'paint'.* lower render.micro_batch"):
        Second(Place()).follow({"paint": paint})


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"port {port} of 127.0.0.1 is in use, where torchrun wants the ranks to me"
        ):
            meet(Place(world=2, port=port, by_torchrun=True))


def test_a_place_that_nobody_serves_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEET_S", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=rf"rank 1 of 2 cannot reach 127.0.0.1:{port}, where torchrun wants the ranks"):
        meet(Place(rank=1, world=2, port=port, by_torchrun=True))


def test_pictures_that_are_to_be_changed_travel_with_their_rows() -> None:
    picture = Picture(np.zeros((2, 2, 3), np.uint8))
    rows = Unpainted(torch.ones(3, 2, 2), [1, 2, 3], (None, picture, None))
    assert rows.take([1, 0]).references == (picture, None) and len(rows) == 3
    assert Unpainted(torch.ones(3, 2, 2), [1, 2, 3]).take([2]).references is None
