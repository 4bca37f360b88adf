"""Pictures of a rollout: the decoder's noise seeds, the micro-batches, and several renders of one token sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rl.types import Rollout, UserError
from rollout.seeds import sample_seed

SeedMode = Literal["group", "sample"]


class Painter(Protocol):
    """What rendering needs of ``policy.decoder.Decoder``."""

    def paint(self, hidden_BSD: Tensor, seeds: Sequence[int], *, steps: int, guidance: float) -> NDArray[np.uint8]: ...


def render_seeds(rollout: Rollout, *, seed_mode: SeedMode, renders: int, run_seed: int, step: int) -> list[int]:
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
    return [sample_seed(run_seed, step, key, index) for key in keys for index in range(renders)]


def render(
    decoder: Painter,
    hidden_BSD: Tensor,
    rollout: Rollout,
    *,
    steps: int,
    guidance: float = 1.0,
    seed_mode: SeedMode = "group",
    renders: int = 1,
    run_seed: int = 0,
    step: int = 0,
    micro_batch: int = 64,
) -> NDArray[np.uint8]:
    """(B, S, D) final hidden states -> (B * k, H, W, 3) uint8; row ``i * k + j`` is render ``j`` of sample ``i``.

    A picture depends on its hidden states and its seed alone, not on ``micro_batch`` or its neighbours.
    """
    if len(hidden_BSD) != rollout.batch_size:
        raise ValueError(f"{len(hidden_BSD)} rows of hidden states for a rollout of {rollout.batch_size} samples")
    seeds = render_seeds(rollout, seed_mode=seed_mode, renders=renders, run_seed=run_seed, step=step)
    rows = np.repeat(np.arange(rollout.batch_size), renders)
    parts = [
        decoder.paint(
            hidden_BSD[rows[start : start + micro_batch]],
            seeds[start : start + micro_batch],
            steps=steps,
            guidance=guidance,
        )
        for start in range(0, len(rows), micro_batch)
    ]
    return np.concatenate(parts)
