"""Pictures painted by all ranks: each has a decoder and paints its part of every micro-batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rl.trainer.ranks import Share
from rl.trainer.team import Team
from rl.types import Rows
from rollout.render import Painter

_PAINT = "paint"


@dataclass(frozen=True)
class Unpainted(Rows):
    """Hidden states and the seeds of the noise that becomes their pictures."""

    hidden_BSD: Tensor
    seeds: Sequence[int]


class TeamPainter:
    """A :class:`rollout.render.Painter` of rank 0, which gives the rows away and has the pictures back."""

    def __init__(
        self, painter: Painter, team: Team, painting: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        """``painting``: around what the others paint; rank 0 is inside its own for all of a step's pictures."""
        self._painter, self._team, self._painting = painter, team, painting

    def paint(self, hidden_BSD: Tensor, seeds: Sequence[int], *, steps: int, guidance: float) -> NDArray[np.uint8]:
        self._team.order(_PAINT, json.dumps([steps, guidance]))
        mine = self._team.hand_out(Unpainted(hidden_BSD.cpu(), tuple(seeds)))
        brought = self._team.bring(self._paint(mine, steps, guidance))
        self._team.done()
        return np.concatenate([np.asarray(part) for part in brought])

    def duties(self) -> dict[str, Callable[[str], object]]:
        return {_PAINT: self._paint_along}

    def _paint_along(self, how: str) -> None:
        share: Share[Unpainted] = self._team.receive()
        with self._painting():
            mine = self._paint(share, *json.loads(how))
        self._team.bring(mine)

    def _paint(self, share: Share[Unpainted], steps: int, guidance: float) -> NDArray[np.uint8]:
        """Without the repeated rows; a rank with nothing else paints one of them and throws it away."""
        count = max(1, sum(share.real))
        rows = share.rows.take(range(count))
        pictures = self._painter.paint(rows.hidden_BSD, rows.seeds, steps=steps, guidance=guidance)
        self._team.did()
        return pictures[: sum(share.real)]
