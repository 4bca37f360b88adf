"""Pictures painted by all ranks: each has a decoder and paints its part of every micro-batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from policy.decoder import References
from policy.flow.walk import FlowTrajectory
from rl.trainer.copies import Lending
from rl.trainer.ranks import Share
from rl.trainer.team import Team
from rl.types import Rows
from rollout.render import Painter

_PAINT, _DRAW = "paint", "draw"
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Unpainted(Rows):
    """Hidden states and the seeds of the noise that becomes their pictures."""

    hidden_BSD: Tensor
    seeds: Sequence[int]
    references: References | None = None


class TeamPainter:
    """A :class:`rollout.render.Painter` of rank 0, which gives the rows away and has the pictures back."""

    def __init__(
        self,
        painter: Painter,
        team: Team,
        painting: Callable[[], AbstractContextManager[object]] = nullcontext,
        drawing: Callable[[], AbstractContextManager[object]] = nullcontext,
        weights: Mapping[str, Lending] = MappingProxyType({}),
    ) -> None:
        """``painting``: around what the others paint; ``drawing``: inside it, where the decoder learns from that. Rank
        0 is inside its own for all of a step's pictures. ``weights``: this rank's others than those of now, and its
        other ways to paint."""
        self._painter, self._team, self._painting, self._drawing = painter, team, painting, drawing
        self._weights, self._lent = weights, list[str]()

    @contextmanager
    def lent(self, name: str) -> Iterator[None]:
        """Of rank 0: everybody paints with those weights inside, and has its own again after each micro-batch. May be
        entered for several names."""
        self._lent.append(name)
        try:
            yield
        finally:
            self._lent.pop()

    def paint(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        references: References | None = None,
    ) -> NDArray[np.uint8]:
        rows = Unpainted(hidden_BSD.cpu(), tuple(seeds), references and tuple(references))
        return np.concatenate(self._together(_PAINT, self._paint, rows, steps, guidance))

    def draw(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        references: References | None = None,
    ) -> tuple[NDArray[np.uint8], FlowTrajectory]:
        rows = Unpainted(hidden_BSD.cpu(), tuple(seeds), references and tuple(references))
        brought = self._together(_DRAW, self._draw, rows, steps, guidance)
        return np.concatenate([one for one, _ in brought]), FlowTrajectory.of_all([one for _, one in brought])

    def duties(self) -> dict[str, Callable[[str], object]]:
        return {_PAINT: self._paint_along, _DRAW: self._draw_along}

    def _together(
        self,
        order: str,
        mine: Callable[[Share[Unpainted], int, float], ResultT],
        rows: Unpainted,
        steps: int,
        guidance: float,
    ) -> list[ResultT]:
        """What every rank has made of its share."""
        self._team.order(order, json.dumps([steps, guidance, self._lent]))
        share = self._team.hand_out(rows)
        with self._with(self._lent):
            done = mine(share, steps, guidance)
        brought = self._team.bring(done)
        self._team.done()
        return cast("list[ResultT]", brought)

    def _paint_along(self, how: str) -> None:
        share: Share[Unpainted] = self._team.receive()
        steps, guidance, lent = json.loads(how)
        with self._painting(), self._with(lent):
            mine = self._paint(share, steps, guidance)
        self._team.bring(mine)

    def _draw_along(self, how: str) -> None:
        share: Share[Unpainted] = self._team.receive()
        steps, guidance, lent = json.loads(how)
        with self._painting(), self._drawing(), self._with(lent):
            mine = self._draw(share, steps, guidance)
        self._team.bring(mine)

    @contextmanager
    def _with(self, lent: Sequence[str]) -> Iterator[None]:
        with ExitStack() as inside:
            for name in lent:
                inside.enter_context(self._weights[name]())
            yield

    def _paint(self, share: Share[Unpainted], steps: int, guidance: float) -> NDArray[np.uint8]:
        rows = _real(share)
        pictures = self._painter.paint(
            rows.hidden_BSD, rows.seeds, steps=steps, guidance=guidance, **_seen(rows.references)
        )
        self._team.did()
        return pictures[: sum(share.real)]

    def _draw(self, share: Share[Unpainted], steps: int, guidance: float) -> tuple[NDArray[np.uint8], FlowTrajectory]:
        rows, count = _real(share), sum(share.real)
        pictures, trajectory = self._painter.draw(
            rows.hidden_BSD, rows.seeds, steps=steps, guidance=guidance, **_seen(rows.references)
        )
        self._team.did()
        return pictures[:count], trajectory.first(count).cpu()


def _seen(references: References | None) -> dict[str, References]:
    return {} if references is None else {"references": references}


def _real(share: Share[Unpainted]) -> Unpainted:
    """Without the repeated rows; a rank with nothing else paints one of them and throws it away."""
    return share.rows.take(range(max(1, sum(share.real))))
