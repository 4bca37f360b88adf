"""Pictures of a rollout: the decoder's noise seeds, the micro-batches, and several renders of one token sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from policy.decoder import References
from policy.flow.walk import FlowTrajectory
from rl.types import Rollout, UserError
from rollout.seeds import sample_seed

SeedMode = Literal["group", "sample"]


class Painter(Protocol):
    """What rendering needs of ``policy.decoder.Decoder``."""

    def paint(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        references: References | None = None,
    ) -> NDArray[np.uint8]:
        """``references``: of each row, the picture that is to be changed; for decoders that see it."""

    def draw(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        references: References | None = None,
    ) -> tuple[NDArray[np.uint8], FlowTrajectory]:
        """The same pictures, with the way to each."""


class RecordingPainter:
    """Keeps the way to every picture that it paints, in the machine's own memory."""

    def __init__(self, painter: Painter) -> None:
        self._painter = painter
        self._drawn: list[FlowTrajectory] = []

    def paint(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        references: References | None = None,
    ) -> NDArray[np.uint8]:
        return self.draw(hidden_BSD, seeds, steps=steps, guidance=guidance, references=references)[0]

    def draw(
        self,
        hidden_BSD: Tensor,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        references: References | None = None,
    ) -> tuple[NDArray[np.uint8], FlowTrajectory]:
        sees = {} if references is None else {"references": references}
        pictures, trajectory = self._painter.draw(hidden_BSD, seeds, steps=steps, guidance=guidance, **sees)
        self._drawn.append(trajectory.cpu())
        return pictures, trajectory

    def trajectory(self) -> FlowTrajectory:
        """Of all, in order."""
        return FlowTrajectory.of_all(self._drawn)


def render_seeds(rollout: Rollout, *, seed_mode: SeedMode, renders: int, run_seed: int, step: int) -> tuple[int, ...]:
    """B * k noise seeds, the k renders of a sample side by side.

    ``group``: the samples of a prompt share their noise, so that the reward compares token sequences and not noise;
    ``sample``: each has its own. Either way render 0..k-1 of one sample differ.
    """
    if seed_mode not in ("group", "sample"):
        raise UserError(f"render.seed is '{seed_mode}'; write 'group' (shared by a prompt's samples) or 'sample'.")
    if renders < 1:
        raise UserError(f"render.renders is {renders}; it must be at least 1.")
    keys = (
        [f"render of {rollout.prompt_of(sample).id}" for sample in range(rollout.batch_size)]
        if seed_mode == "group"
        else [f"render of sample {seed}" for seed in rollout.seeds]
    )
    return tuple(sample_seed(run_seed, step, key, index) for key in keys for index in range(renders))


def painted(
    painter: Painter,
    hidden_BSD: Tensor,
    seeds: Sequence[int],
    *,
    renders: int,
    steps: int,
    guidance: float = 1.0,
    micro_batch: int = 64,
    references: References | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """(B, S, D) final hidden states and B * k seeds, k ``renders`` of each -> (n, H, W, 3) uint8 pictures,
    ``micro_batch`` at a time.

    Picture ``i * k + j`` is render ``j`` of sample ``i``. A picture depends on its hidden states and its seed alone,
    not on ``micro_batch`` or its neighbours. ``references``: of each of the B rows, the picture to be changed, if any.
    """
    if len(seeds) != renders * len(hidden_BSD):
        raise ValueError(f"{len(seeds)} seeds for {renders} renders of {len(hidden_BSD)} rows of hidden states")
    rows = np.repeat(np.arange(len(hidden_BSD)), renders)
    for start in range(0, len(rows), micro_batch):
        part = slice(start, start + micro_batch)
        sees = {} if references is None else {"references": [references[row] for row in rows[part]]}
        yield painter.paint(hidden_BSD[rows[part]], seeds[part], steps=steps, guidance=guidance, **sees)
